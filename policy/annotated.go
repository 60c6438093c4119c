package policy

import _ "embed"

//go:embed annotated.yaml
var annotated string

// Annotated returns a policy file that says what holds without one and explains
// every key: something to start from.
func Annotated() string { return annotated }
