package htpasswd

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"unicode"
	"unicode/utf8"
)

// users is what a file says. It doesn't change once it counts.
type users struct {
	byName map[string]*user
	list   []*user // in the file's order
	seed   maphash.Seed
	last   uint64 // the highest version that was ever given to one
}

type user struct {
	hash    hash
	text    string // the hash as the file has it
	version uint64
}

// errNobody is what a file without a user is.
var errNobody = errors.New("it has no users")

// nobody is what counts once the file is gone. Its successors go on counting versions.
func nobody(old *users) *users {
	return &users{byName: map[string]*user{}, seed: old.seed, last: old.last}
}

// standIn returns the user whose hash stands in for that of one who doesn't exist, or
// nil if nobody exists. If hashes differ in cost, so do those of names nobody has.
func (u *users) standIn(name string) *user {
	if len(u.list) == 0 {
		return nil
	}
	return u.list[maphash.String(u.seed, name)%uint64(len(u.list))]
}

// succeed makes u what counts after old, which is nil for the first. A user has the
// version of old unless something has changed. It returns how many are new or have
// another hash, and how many are there no more.
func (u *users) succeed(old *users) (changed, removed int) {
	if old == nil {
		old = &users{seed: maphash.MakeSeed()}
	}
	u.last, u.seed = old.last, old.seed
	for name, now := range u.byName {
		if was, ok := old.byName[name]; ok && was.text == now.text {
			now.version = was.version
			continue
		}
		u.last++
		now.version = u.last
		changed++
	}
	for name := range old.byName {
		if _, ok := u.byName[name]; !ok {
			removed++
		}
	}
	return changed, removed
}

// parse reads a file's content. The error has the numbers of its lines, and nothing
// that is in them.
func parse(content []byte) (*users, error) {
	u := &users{byName: make(map[string]*user)}
	lineOf := make(map[string]int)
	var wrong problems
	number := 0
	content = bytes.TrimPrefix(content, []byte("\ufeff")) // some editors begin a file with it
	for line := range strings.Lines(string(content)) {
		number++
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		name, parsed, err := parseLine(line)
		if first, twice := lineOf[name]; err == nil && twice {
			err = fmt.Errorf("the user of line %d once more", first)
		}
		if err != nil {
			wrong.add(number, err)
			continue
		}
		lineOf[name] = number
		u.byName[name] = parsed
		u.list = append(u.list, parsed)
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	if len(u.list) == 0 {
		return nil, errNobody
	}
	return u, nil
}

const maxLine = 4096 // bytes

func parseLine(line string) (string, *user, error) {
	if len(line) > maxLine {
		return "", nil, fmt.Errorf("longer than %d bytes", maxLine)
	}
	name, rest, ok := strings.Cut(line, ":")
	if !ok {
		return "", nil, errors.New("no colon: want name:hash")
	}
	if name == "" {
		return "", nil, errors.New("no name before the colon")
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return "", nil, errors.New("a name that isn't UTF-8, or has control characters")
	}
	text, _, _ := strings.Cut(rest, ":")
	text = strings.TrimSpace(text)
	h, err := parseHash(text)
	if err != nil {
		return "", nil, err
	}
	return strings.Clone(name), &user{hash: h, text: strings.Clone(text)}, nil
}

// problems are those of a file, of which the first few are told.
type problems struct {
	texts []string
	more  int
}

func (p *problems) add(line int, err error) {
	if len(p.texts) == 10 {
		p.more++
		return
	}
	p.texts = append(p.texts, fmt.Sprintf("line %d: %v", line, err))
}

func (p *problems) err() error {
	if len(p.texts) == 0 {
		return nil
	}
	text := strings.Join(p.texts, "; ")
	if p.more > 0 {
		text += fmt.Sprintf("; and %d more", p.more)
	}
	return errors.New(text)
}
