package cache

import (
	"net/http"
	"strings"
	"time"
)

// The shapes of the three forms of an HTTP-date: 0 is a digit, a a letter, _ a digit
// or a space. The second begins after the name of the day.
const (
	shapeIMF     = "aaa, 00 aaa 0000 00:00:00 aaa"
	shapeRFC850  = ", 00-aaa-00 00:00:00 aaa"
	shapeASCTime = "aaa aaa _0 00:00:00 0000"
)

// parseDate reads an HTTP-date in any of its forms (RFC 9110, section 5.6.7), without
// regard to case as RFC 9111, section 4.2, asks of caches, and otherwise to the
// letter: a zone other than GMT, a digit or a space too many make it invalid, and an
// invalid Expires is in the past. now tells the century of a year of two digits.
func parseDate(s string, now time.Time) (time.Time, bool) {
	layout := http.TimeFormat
	switch comma := strings.IndexByte(s, ','); {
	case shaped(s, shapeIMF):
	case shaped(s, shapeASCTime):
		t, err := time.Parse(time.ANSIC, s)
		return t, err == nil
	case comma > 0 && shaped(s[comma:], shapeRFC850):
		layout = "Monday, 02-Jan-06 15:04:05 GMT"
	default:
		return time.Time{}, false
	}
	if zone := s[len(s)-3:]; zone != "GMT" {
		if !strings.EqualFold(zone, "GMT") {
			return time.Time{}, false
		}
		s = s[:len(s)-3] + "GMT"
	}
	t, err := time.Parse(layout, s)
	if err != nil {
		return time.Time{}, false
	}
	if layout != http.TimeFormat {
		t = inCentury(t, now)
	}
	return t, true
}

// inCentury moves a year of which only the last two digits are known: what would be
// more than fifty years in the future is in the past (RFC 9110, section 5.6.7).
func inCentury(t, now time.Time) time.Time {
	year := now.Year()/100*100 + t.Year()%100
	t = t.AddDate(year-t.Year(), 0, 0)
	if t.After(now.AddDate(50, 0, 0)) {
		t = t.AddDate(-100, 0, 0)
	}
	return t
}

func shaped(s, shape string) bool {
	if len(s) != len(shape) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		digit := c >= '0' && c <= '9'
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		switch shape[i] {
		case '0':
			if !digit {
				return false
			}
		case 'a':
			if !letter {
				return false
			}
		case '_':
			if !digit && c != ' ' {
				return false
			}
		default:
			if c != shape[i] {
				return false
			}
		}
	}
	return true
}
