def render(a): return ""
