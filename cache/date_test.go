package cache

import (
	"net/http"
	"testing"
	"time"
)

func TestParseDate(t *testing.T) {
	want := time.Date(2050, 8, 18, 2, 1, 18, 0, time.UTC)
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		clause, text string
		want         time.Time // zero: invalid
	}{
		{"5.6.7: IMF-fixdate", "Thu, 18 Aug 2050 02:01:18 GMT", want},
		{"5.6.7: RFC 850", "Thursday, 18-Aug-50 02:01:18 GMT", want},
		{"5.6.7: RFC 850, more than fifty years ahead", "Monday, 18-Aug-80 02:01:18 GMT", time.Date(1980, 8, 18, 2, 1, 18, 0, time.UTC)},
		{"5.6.7: asctime", "Thu Aug 18 02:01:18 2050", want},
		{"5.6.7: asctime with a day of one digit", "Thu Aug  8 02:01:18 2050", want.AddDate(0, 0, -10)},
		{"4.2: case of the day", "THU, 18 Aug 2050 02:01:18 GMT", want},
		{"4.2: case of the month", "Thu, 18 AUG 2050 02:01:18 GMT", want},
		{"4.2: case of the zone", "Thu, 18 Aug 2050 02:01:18 gMT", want},
		{"4.2: another zone", "Thu, 18 Aug 2050 02:01:18 UTC", time.Time{}},
		{"4.2: another zone in the old form", "Thursday, 18-Aug-50 02:01:18 EST", time.Time{}},
		{"a year of two digits", "Thu, 18 Aug 50 02:01:18 GMT", time.Time{}},
		{"no comma", "Thu 18 Aug 2050 02:01:18 GMT", time.Time{}},
		{"two spaces", "Thu, 18  Aug  2050 02:01:18 GMT", time.Time{}},
		{"dashes", "Thu, 18-Aug-2050 02:01:18 GMT", time.Time{}},
		{"periods", "Thu, 18 Aug 2050 02.01.18 GMT", time.Time{}},
		{"an hour of one digit", "Thu, 18 Aug 2050 2:01:18 GMT", time.Time{}},
		{"a space for the lacking digit", "Thu, 18 Aug 2050  2:01:18 GMT", time.Time{}},
		{"no such day", "Thu, 31 Feb 2050 02:01:18 GMT", time.Time{}},
		{"a number", "0", time.Time{}},
		{"nothing", "", time.Time{}},
	} {
		got, ok := parseDate(test.text, now)
		if ok != !test.want.IsZero() || ok && !got.Equal(test.want) {
			t.Errorf("%s: %q is %v, %v", test.clause, test.text, got, ok)
		}
	}
}

// FuzzParseDate holds parseDate against net/http, which takes more.
func FuzzParseDate(f *testing.F) {
	f.Add("Thu, 18 Aug 2050 02:01:18 GMT")
	f.Add("Thursday, 18-Aug-50 02:01:18 gmt")
	f.Add("Thu Aug  8 02:01:18 2050")
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseDate(s, now)
		if !ok {
			return
		}
		if len(s) > 3 && s[len(s)-1]|0x20 == 't' {
			s = s[:len(s)-3] + "GMT"
		}
		want, err := http.ParseTime(s)
		if err != nil || !got.Equal(want) && got.Year()%100 != want.Year()%100 {
			t.Errorf("%q: %v, net/http says %v, %v", s, got, want, err)
		}
	})
}
