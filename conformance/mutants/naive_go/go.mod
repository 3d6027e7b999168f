module fractal-lba.example/conformance/mutants/naive_go

go 1.26
