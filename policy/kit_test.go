package policy

import "testing"

func TestKitNameIsOneHost(t *testing.T) {
	for name, want := range map[string]string{
		"larder.internal": "larder.internal", "Larder.Corp.example.": "larder.corp.example", "larder": "larder", "bücher.example": "xn--bcher-kva.example", "": "",

		"*.internal": "-", ".internal": "-", "{a,b}.internal": "-", "10.0.0.5": "-", "[::1]": "-", "larder.internal:80": "-", "a b": "-", "a..b": "-",
		"http://larder.internal": "-", "*": "-", "larder/x": "-",
	} {
		p, err := Parse("f.yaml", []byte("kit: { name: \""+name+"\" }\n"))
		if (err == nil) != (want != "-") || err == nil && p.Settings().Kit.Name != want {
			t.Errorf("%q: %v", name, err)
		}
	}
	if p, err := Parse("f.yaml", []byte("presets: none\n")); err != nil || p.Settings().Kit.Name != "larder.internal" {
		t.Errorf("left out: %v", err)
	}
}

func TestKitProxyURLIsSchemeHostAndPort(t *testing.T) {
	for url, ok := range map[string]bool{
		"http://larder.example:3128": true, "https://10.1.2.3:3443": true, "http://[fd00::1]:3128": true,
		"http://xn--bcher-kva.example:3128": true, "": true,

		"http://larder.example": false, "http://larder.example:": false, "http://larder.example:0": false,
		"larder.example:3128": false, "socks5://larder.example:1080": false, "http://larder.example:3128/": false,
		"http://u:p@larder.example:3128": false, "http://larder.example:3128?x": false, "http://:3128": false,
		"http://*.example:3128": false, "http://{a,b}:3128": false, "http://.example:3128": false,
		"http://$(id):3128": false, "http://a'b:3128": false, "http://bücher.example:3128": false, "http://[fe80::1%25eth0]:3128": false,
	} {
		_, err := Parse("f.yaml", []byte("kit: { proxy_url: \""+url+"\" }\n"))
		if (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}
