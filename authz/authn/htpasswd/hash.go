package htpasswd

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	hashes "hash"
	"strconv"
	"strings"

	"github.com/go-crypt/x/crypt"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// What a hash may cost at most. One login then takes some seconds on a usual machine;
// a file that asks for more would keep it busy for whoever knows a name.
const (
	maxBcryptCost   = 16
	maxSHARounds    = 5_000_000
	maxArgon2Memory = 1 << 20 // KiB
	maxArgon2Work   = 4 << 20 // KiB, memory times passes
)

// A hash is what a file has of a password. It is safe for concurrent use.
type hash interface {
	matches(password string) bool
}

// weak are prefixes of hashes that protect nothing today.
var weak = map[string]string{
	"$apr1$": "MD5", "$1$": "MD5", "{SHA}": "SHA-1", "{SSHA}": "SHA-1", "$sha1$": "SHA-1", "$md5": "MD5",
}

// parseHash parses a hash. Its errors have nothing of the text but the cost in it.
func parseHash(text string) (hash, error) {
	switch {
	case strings.HasPrefix(text, "$2a$"), strings.HasPrefix(text, "$2b$"), strings.HasPrefix(text, "$2y$"):
		return parseBcrypt(text)
	case strings.HasPrefix(text, "$5$"):
		return parseSHA(text[len("$5$"):], sha256.New, 43)
	case strings.HasPrefix(text, "$6$"):
		return parseSHA(text[len("$6$"):], sha512.New, 86)
	case strings.HasPrefix(text, "$argon2id$"):
		return parseArgon2(text)
	}
	for prefix, name := range weak {
		if strings.HasPrefix(text, prefix) {
			return nil, fmt.Errorf("a hash made with %s, which is too weak: make one with 'htpasswd -B'", name)
		}
	}
	return nil, errors.New("no hash that is known here: want bcrypt ($2y$), SHA-crypt ($5$, $6$) or argon2id, like 'htpasswd -B' makes one")
}

type bcryptHash []byte

func (h bcryptHash) matches(password string) bool {
	return bcrypt.CompareHashAndPassword(h, []byte(password)) == nil
}

const (
	bcryptLength = 60
	crypt64      = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

func parseBcrypt(text string) (hash, error) {
	cost, err := bcrypt.Cost([]byte(text))
	switch {
	case err != nil || len(text) != bcryptLength || text[6] != '$' || !consistsOf(text[7:], crypt64):
		return nil, errors.New("a bcrypt hash that isn't whole")
	case cost > maxBcryptCost:
		return nil, fmt.Errorf("bcrypt with cost %d: at most %d", cost, maxBcryptCost)
	}
	return bcryptHash(text), nil
}

// shaHash is one of "Unix crypt using SHA-256 and SHA-512".
type shaHash struct {
	new       func() hashes.Hash
	rounds    int
	salt, key []byte
}

func (h shaHash) matches(password string) bool {
	return subtle.ConstantTimeCompare(crypt.KeySHACrypt(h.new, []byte(password), h.salt, h.rounds), h.key) == 1
}

const (
	minSHARounds     = 1000
	defaultSHARounds = 5000
	maxSHASalt       = 16
)

// parseSHA parses what follows the first prefix.
func parseSHA(text string, algorithm func() hashes.Hash, length int) (hash, error) {
	rounds := defaultSHARounds
	if rest, ok := strings.CutPrefix(text, "rounds="); ok {
		number, after, _ := strings.Cut(rest, "$")
		var err error
		if rounds, err = strconv.Atoi(number); err != nil || rounds < minSHARounds || rounds > maxSHARounds {
			return nil, fmt.Errorf("rounds of SHA-crypt: want %d to %d", minSHARounds, maxSHARounds)
		}
		text = after
	}
	salt, key, _ := strings.Cut(text, "$")
	if len(salt) == 0 || len(salt) > maxSHASalt || len(key) != length || !consistsOf(key, crypt64) {
		return nil, errors.New("a SHA-crypt hash that isn't whole")
	}
	return shaHash{algorithm, rounds, []byte(salt), []byte(key)}, nil
}

type argon2Hash struct {
	memory, passes uint32 // memory in KiB
	lanes          uint8
	salt, key      []byte
}

func (h argon2Hash) matches(password string) bool {
	key := argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(len(h.key))) //nolint:gosec // at most maxArgon2Bytes
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

// How long salt and key of argon2id are, in bytes.
const (
	minArgon2Salt, minArgon2Key = 8, 16
	maxArgon2Bytes              = 64
)

var errArgon2 = errors.New("an argon2id hash that isn't whole: want $argon2id$v=19$m=…,t=…,p=…$salt$key")

func parseArgon2(text string) (hash, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[2] != "v=19" {
		return nil, errArgon2
	}
	h, err := parseArgon2Cost(parts[3])
	if err != nil {
		return nil, err
	}
	var errSalt, errKey error
	h.salt, errSalt = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	h.key, errKey = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if errSalt != nil || errKey != nil || len(h.salt) < minArgon2Salt || len(h.key) < minArgon2Key ||
		max(len(h.salt), len(h.key)) > maxArgon2Bytes {
		return nil, errArgon2
	}
	return h, nil
}

// parseArgon2Cost parses "m=65536,t=3,p=4".
func parseArgon2Cost(text string) (h argon2Hash, err error) {
	parts := strings.Split(text, ",")
	if len(parts) != 3 {
		return h, errArgon2
	}
	var numbers [3]uint64
	for i, key := range []string{"m=", "t=", "p="} {
		number, ok := strings.CutPrefix(parts[i], key)
		numbers[i], err = strconv.ParseUint(number, 10, 32)
		if !ok || err != nil || numbers[i] == 0 {
			return h, errArgon2
		}
	}
	memory, passes, lanes := numbers[0], numbers[1], numbers[2]
	switch {
	case lanes > 255:
		return h, errArgon2
	case memory > maxArgon2Memory:
		return h, fmt.Errorf("argon2id with m=%d: at most %d (KiB)", memory, maxArgon2Memory)
	case memory*passes > maxArgon2Work:
		return h, fmt.Errorf("argon2id with m=%d,t=%d: at most %d times %d (KiB)", memory, passes, maxArgon2Memory, maxArgon2Work/maxArgon2Memory)
	}
	h.memory, h.passes, h.lanes = uint32(memory), uint32(passes), uint8(lanes) //nolint:gosec // they were parsed to fit
	return h, nil
}

func consistsOf(s, alphabet string) bool { return strings.Trim(s, alphabet) == "" }
