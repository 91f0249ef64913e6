module interop

go 1.26
