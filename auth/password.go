package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// What a hash may cost: above it a file with a slip of the pen would stop the
// proxy, and below it guessing is cheap.
const (
	minBcrypt, maxBcrypt = 5, 14 // htpasswd -B writes 5; 14 is about a second
	maxMemory            = 256 << 10
	maxPasses            = 16
	maxThreads           = 16
)

// maxPassword is the length of a password in bytes.
const maxPassword = 1024

// The parameters that Hash uses: OWASP's recommendation of 2023 for argon2id.
const (
	hashMemory  = 19 << 10 // KiB
	hashPasses  = 2
	hashThreads = 1
	hashSalt    = 16
	hashKey     = 32
)

// passwordHash is the right-hand side of a line of the passwords file.
type passwordHash interface {
	// matches takes as long for a wrong password as for the right one.
	matches(password string) bool
}

// parseHash reads a hash in the form of bcrypt or a PHC string of argon2id. Its
// errors hold nothing of the hash.
func parseHash(s string) (passwordHash, error) {
	switch {
	case strings.HasPrefix(s, "$2a$"), strings.HasPrefix(s, "$2b$"), strings.HasPrefix(s, "$2y$"):
		return parseBcrypt(s)
	case strings.HasPrefix(s, "$argon2id$"):
		return parseArgon2(s)
	}
	return nil, errors.New("neither a bcrypt nor an argon2id hash")
}

type bcryptHash []byte

func parseBcrypt(s string) (passwordHash, error) {
	cost, err := bcrypt.Cost([]byte(s))
	if err != nil || len(s) != 60 {
		return nil, errors.New("not a whole bcrypt hash")
	}
	if cost < minBcrypt || cost > maxBcrypt {
		return nil, fmt.Errorf("bcrypt of cost %d; %d to %d are taken", cost, minBcrypt, maxBcrypt)
	}
	return bcryptHash(s), nil
}

// matches refuses what is longer than bcrypt looks at: 72 bytes.
func (h bcryptHash) matches(password string) bool {
	return bcrypt.CompareHashAndPassword(h, []byte(password[:min(len(password), 72)])) == nil && len(password) <= 72
}

type argon2Hash struct {
	memory, passes uint32 // KiB, rounds
	threads        uint8
	salt, key      []byte
}

// parseArgon2 reads "$argon2id$v=19$m=19456,t=2,p=1$SALT$KEY", the PHC string
// format with base64 without padding.
func parseArgon2(s string) (passwordHash, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 {
		return nil, errors.New("not a whole argon2id hash")
	}
	if parts[2] != "v=19" {
		return nil, errors.New("argon2id of another version than 19")
	}
	var h argon2Hash
	var threads uint32
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 || !cost(costs[0], "m=", 8, maxMemory, &h.memory) || !cost(costs[1], "t=", 1, maxPasses, &h.passes) ||
		!cost(costs[2], "p=", 1, maxThreads, &threads) {
		return nil, fmt.Errorf("argon2id whose costs are not m=8 to %d, t=1 to %d, p=1 to %d", maxMemory, maxPasses, maxThreads)
	}
	h.threads = uint8(threads)
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	h.key, err2 = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.key) < 16 || len(h.key) > 64 {
		return nil, errors.New("argon2id whose salt is not of 8 to 64 bytes or whose key is not of 16 to 64, in base64 without padding")
	}
	return &h, nil
}

func cost(s, name string, low, high uint32, into *uint32) bool {
	digits, ok := strings.CutPrefix(s, name)
	n, err := strconv.ParseUint(digits, 10, 32)
	*into = uint32(n)
	return ok && err == nil && digits[0] != '0' && digits[0] != '+' && *into >= low && *into <= high
}

func (h *argon2Hash) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.derive(password), h.key) == 1
}

func (h *argon2Hash) derive(password string) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.threads, uint32(len(h.key)))
}

// Hash makes the line of a passwords file for a user.
func Hash(user, password string) (string, error) {
	if !validUser(user) {
		return "", errors.New("the name must be 1 to 255 bytes of text without colons and control characters and not *")
	}
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("the password must have 1 to %d bytes", maxPassword)
	}
	salt := make([]byte, hashSalt)
	_, _ = rand.Read(salt) // never fails
	key := argon2.IDKey([]byte(password), salt, hashPasses, hashMemory, hashThreads, hashKey)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("%s:$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", user, hashMemory, hashPasses, hashThreads, b64(salt), b64(key)), nil
}

// passwords is what a passwords file says.
type passwords struct {
	of map[string]passwordHash
	// all are the same hashes in the order of the file, of which one stands in for
	// each name that nobody has.
	all []passwordHash
	// text tells a hash that stayed the same over a reload from a new one.
	text map[string]string
}

func readPasswords(path string) (passwords, error) {
	p := passwords{of: map[string]passwordHash{}, text: map[string]string{}}
	if path == "" {
		return p, nil
	}
	b, err := readFile(path)
	if err != nil {
		return p, err
	}
	err = eachLine(path, b, func(user, rest string) (string, string) {
		if _, twice := p.of[user]; twice {
			return "the name has a line already", ""
		}
		h, err := parseHash(rest)
		if err != nil {
			return err.Error(), "make the line anew: larder auth password NAME, or htpasswd -nB NAME"
		}
		p.of[user], p.text[user] = h, rest
		p.all = append(p.all, h)
		return "", ""
	})
	if err == nil && len(p.all) == 0 {
		err = &FileError{Path: path, Why: "no user in it", Do: "make a line with: larder auth password NAME"}
	}
	return p, err
}

// standIn returns the hash that a wrong password for a name is held against: its
// own or, for a name that nobody has, always the same of somebody else.
func (p *passwords) standIn(user string, keyed uint64) (h passwordHash, known bool) {
	if h, known = p.of[user]; known {
		return h, true
	}
	return p.all[keyed%uint64(len(p.all))], false
}
