package main

import (
	"context"
	"os"
)

func main() {
	root := newRoot()
	root.SetArgs(os.Args[1:])
	err := root.ExecuteContext(context.Background())
	os.Exit(report(os.Stderr, err))
}
