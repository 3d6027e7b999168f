def check_page(p): return None
