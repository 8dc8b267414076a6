//go:build real

package rotation

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

type user struct{ name, password string }

// passwords is a file of users.
type passwords struct {
	*testing.T

	path string
	put  func(content []byte)
}

// write has the file say who the users are.
func (p *passwords) write(all ...user) {
	p.Helper()
	var lines strings.Builder
	for _, u := range all {
		hash, err := bcrypt.GenerateFromPassword([]byte(u.password), bcrypt.MinCost)
		if err != nil {
			p.Fatal(err)
		}
		fmt.Fprintf(&lines, "%s:%s\n", u.name, hash)
	}
	p.put([]byte(lines.String()))
}

// renamed is a file that is written beside, and renamed to.
func renamed(t *testing.T) *passwords {
	t.Helper()
	path := filepath.Join(t.TempDir(), "htpasswd")
	return &passwords{t, path, func(content []byte) { replace(t, path, content) }}
}

// mounted is a file of a secret, as Kubernetes mounts it: a link to one in a folder,
// to which another link leads, which is what changes.
func mounted(t *testing.T) *passwords {
	t.Helper()
	dir := t.TempDir()
	path, data := filepath.Join(dir, "htpasswd"), filepath.Join(dir, "..data")
	if err := os.Symlink("..data/htpasswd", path); err != nil {
		t.Fatal(err)
	}
	return &passwords{t, path, func(content []byte) {
		next, err := os.MkdirTemp(dir, "..next")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(next, "htpasswd"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		last, _ := os.Readlink(data) // none at first
		if err := os.Symlink(filepath.Base(next), data+"_tmp"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(data+"_tmp", data); err != nil {
			t.Fatal(err)
		}
		if last != "" {
			if err := os.RemoveAll(filepath.Join(dir, last)); err != nil {
				t.Fatal(err)
			}
		}
	}}
}

// replace writes a file beside, and renames it.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+"~", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}
