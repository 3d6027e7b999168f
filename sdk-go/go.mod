module fractal-lba.example/sdk-go

go 1.26
