module fractal-lba.example/conformance/testees/go

go 1.26

require fractal-lba.example/sdk-go v0.4.0

replace fractal-lba.example/sdk-go => ../../../sdk-go
