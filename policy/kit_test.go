package policy

import "testing"

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
