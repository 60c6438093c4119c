package main

import "larder/ca"

func openSigner(string) (ca.Signer, error) { return nil, nil }
