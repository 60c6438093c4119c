package policy_test

import (
	"fmt"
	"net/url"

	"larder/policy"
)

func ExampleParse() {
	p, err := policy.Parse("larder.yaml", []byte(`
presets: none
rules:
  - name: releases
    hosts: ["*.corp.test"]
    paths: ["/releases/**"]
    action: immutable
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	u, _ := url.Parse("https://files.corp.test/releases/a.tar")
	fmt.Println(p.Connect(policy.Client{}, "files.corp.test", 443).Action, p.Classify(policy.Client{}, "GET", u).Action)
	fmt.Println(p.Connect(policy.Client{}, "www.example.org", 443).Action)
	// Output:
	// pass immutable
	// tunnel
}

func ExampleParse_problems() {
	_, err := policy.Parse("larder.yaml", []byte(`
rules:
  - name: releases
    hosts: ["*.corp.test"]
    action: imutable
`))
	fmt.Println(err)
	// Output:
	// larder.yaml:5:13: rule "releases": unknown action "imutable"
	//   5 |     action: imutable
	//     |             ^
	//   hint: did you mean "immutable"?
}

func ExamplePolicy_Explain() {
	p, _ := policy.Parse("larder.yaml", []byte(`
presets: none
rules:
  - name: releases
    hosts: ["*.corp.test"]
    paths: ["/releases/**"]
    action: immutable
  - name: rest
    hosts: ["*.corp.test"]
    action: pass
`))
	u, _ := url.Parse("https://files.corp.test/login")
	fmt.Print(p.Explain(policy.Client{}, "GET", u))
	// Output:
	// GET https://files.corp.test/login
	//   not rule "releases" at larder.yaml:4:5: no pattern in paths matches /login
	//   rule "rest" at larder.yaml:8:5 decides: pass
	//   larder opens the TLS of the connection. It forwards the request unmodified and stores nothing.
}
