package cache

import "strings"

// IsSecret judges by its name whether a header field or query parameter holds a
// credential. That it takes some harmless ones for secrets does no harm.
func IsSecret(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case "sig", "auth", "key", "code", "state", "policy", "key-pair-id", "pwd", "pass", "sid", "session", "www-authenticate", "authentication-info":
		return true
	}
	for _, part := range []string{
		"authorization", "cookie", "token", "secret", "password", "passwd", "signature", "credential", "api-key",
		"apikey", "api_key", "access_key", "accesskey", "access-key", "session-id", "sessionid", "jwt", "otp", "x-jfrog-art-api",
	} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// mayBeShown lists the request fields whose values Cache-Status shows. It names what
// is known to hold no credential: others may, whatever they are called.
func mayBeShown(name string) bool {
	switch name {
	case "origin", "user-agent", "content-type", "x-requested-with", "x-forwarded-host", "x-forwarded-proto":
		return true
	}
	return name == "accept" || strings.HasPrefix(name, "accept-") && !IsSecret(name)
}
