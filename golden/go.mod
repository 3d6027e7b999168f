module fractal-lba.example/golden

go 1.26
