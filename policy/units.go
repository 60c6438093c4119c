package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

var durationUnits = []struct {
	name string
	unit time.Duration
}{
	// Longer names first where one is the prefix of another.
	{"ms", time.Millisecond},
	{"us", time.Microsecond},
	{"µs", time.Microsecond},
	{"ns", time.Nanosecond},
	{"s", time.Second},
	{"m", time.Minute},
	{"h", time.Hour},
	{"d", 24 * time.Hour},
	{"w", 7 * 24 * time.Hour},
}

// ParseDuration reads a duration as time.ParseDuration does, with d (24 hours)
// and w (7 days) as further units, and without a sign: no duration of a policy
// may be negative. "0" needs no unit.
func ParseDuration(s string) (time.Duration, error) {
	d, err := parseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("parse duration: %w", err)
	}
	return d, nil
}

func parseDuration(s string) (time.Duration, *valueError) {
	const example = "write 90s, 10m, 24h, 7d or 2w"
	if s == "0" {
		return 0, nil
	}
	if strings.HasPrefix(s, "-") {
		return 0, badValue("write 0 for none", "duration %q is negative", s)
	}
	var total float64
	rest := s
	for rest != "" {
		n := leadingNumber(rest)
		if n == 0 {
			return 0, badValue(example, "%q is not a duration", s)
		}
		value, err := strconv.ParseFloat(rest[:n], 64)
		if err != nil {
			return 0, badValue(example, "%q is not a duration", s)
		}
		rest = rest[n:]
		if rest == "" {
			return 0, badValue(fmt.Sprintf("write %ss if seconds are meant", s), "duration %q has no unit", s)
		}
		unit, name := time.Duration(0), ""
		for _, u := range durationUnits {
			if strings.HasPrefix(rest, u.name) {
				unit, name = u.unit, u.name
				break
			}
		}
		if unit == 0 {
			return 0, badValue(example, "%q is not a duration: unknown unit %q", s, leadingWord(rest))
		}
		rest = rest[len(name):]
		if rest != "" && leadingNumber(rest) == 0 {
			return 0, badValue(example, "%q is not a duration: unknown unit %q", s, name+leadingWord(rest))
		}
		total += value * float64(unit)
	}
	if s == "" {
		return 0, badValue(example, "duration is empty")
	}
	if total >= math.MaxInt64 {
		return 0, badValue("", "duration %q is longer than 292 years", s)
	}
	return time.Duration(total), nil
}

var sizeUnits = []struct {
	name string
	unit int64
}{
	{"B", 1},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
}

// ParseSize reads a number of bytes with one of the units B, KB, MB, GB, TB
// (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024). "0" needs no unit.
func ParseSize(s string) (int64, error) {
	n, err := parseSize(s)
	if err != nil {
		return 0, fmt.Errorf("parse size: %w", err)
	}
	return n, nil
}

func parseSize(s string) (int64, *valueError) {
	const example = "write a number and one of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB, as 20GiB"
	if s == "0" {
		return 0, nil
	}
	if strings.HasPrefix(s, "-") {
		return 0, badValue(example, "size %q is negative", s)
	}
	n := leadingNumber(s)
	if n == 0 {
		return 0, badValue(example, "%q is not a size", s)
	}
	value, err := strconv.ParseFloat(s[:n], 64)
	if err != nil {
		return 0, badValue(example, "%q is not a size", s)
	}
	name := strings.TrimPrefix(s[n:], " ")
	if name == "" {
		return 0, badValue(fmt.Sprintf("write %sB if bytes are meant", s), "size %q has no unit", s)
	}
	for _, u := range sizeUnits {
		if u.name != name {
			continue
		}
		if bytes := value * float64(u.unit); bytes < math.MaxInt64 {
			return int64(bytes), nil
		}
		return 0, badValue("", "size %q is larger than 8 EiB", s)
	}
	return 0, badValue(sizeHint(name, example), "%q is not a size: unknown unit %q", s, name)
}

// sizeHint guesses the unit from its first letter: 20G, 20gb and 20Gi all
// want a GiB or a GB.
func sizeHint(name, otherwise string) string {
	first := strings.ToUpper(name[:1])
	if len(name) <= 3 && strings.Contains("KMGT", first) {
		return fmt.Sprintf("did you mean %siB (powers of 1024) or %sB (powers of 1000)?", first, first)
	}
	return otherwise
}

// leadingNumber returns the length of the decimal number that s begins with.
func leadingNumber(s string) int {
	n, digits, dots := 0, 0, 0
	for n < len(s) {
		switch c := s[n]; {
		case '0' <= c && c <= '9':
			digits++
		case c == '.' && dots == 0:
			dots++
		default:
			if digits == 0 {
				return 0
			}
			return n
		}
		n++
	}
	if digits == 0 {
		return 0
	}
	return n
}

// leadingWord returns s up to its first digit.
func leadingWord(s string) string {
	if i := strings.IndexAny(s, "0123456789"); i >= 0 {
		return s[:i]
	}
	return s
}
