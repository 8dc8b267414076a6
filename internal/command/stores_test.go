package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// configured is a configuration with a registry called main.
type configured struct {
	store   storage.Store
	folders []string
	closed  int
	keys    []string // of its state

	wrote  bool
	asked  authz.Supposed
	answer authz.Explanation
}

var errNone = errors.New("the configuration has no registry of this name")

func (c *configured) Open(_ context.Context, registry string, write bool) (storage.Store, []string, error) {
	if registry != "main" {
		return nil, nil, errNone
	}
	c.wrote = write
	return c.store, c.folders, nil
}

func (c *configured) Explain(_ context.Context, registry string, s authz.Supposed) (authz.Explanation, error) {
	if registry == "other" {
		return authz.Explanation{}, errNone
	}
	c.asked = s
	return c.answer, nil
}

func (c *configured) MoveState(_ context.Context, registry, to string, moved func(key string)) error {
	if registry == "other" {
		return errNone
	}
	for _, key := range c.keys {
		moved(key + " to " + to)
	}
	return nil
}

func (c *configured) Close() error {
	c.closed++
	return nil
}

// caddy is one that has c in the file a.json, by the adapter that's called a.
func (c *configured) caddy() Caddy {
	return Caddy{Load: func(file, adapter string) (Configuration, error) {
		if file != "a.json" || adapter != "a" {
			return nil, fmt.Errorf("%s by %s", file, adapter)
		}
		return c, nil
	}}
}

// A registry of a configuration is opened as that says, and closed with it.
func TestStoreOfAConfiguration(t *testing.T) {
	t.Parallel()
	c := &configured{store: memory.New(), folders: []string{t.TempDir()}}
	f := storeFlags{caddy: c.caddy(), config: "a.json", adapter: "a"}
	for _, write := range []bool{true, false} {
		open := func() (storage.Store, error) { return f.read(t.Context(), new(bytes.Buffer), "registry:main") }
		if write {
			open = func() (storage.Store, error) { return f.write(t.Context(), "registry:main") }
		}
		c.closed = 0
		s, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if c.wrote != write || c.closed != 0 {
			t.Errorf("write %t: it's opened with %t, and closed %d times", write, c.wrote, c.closed)
		}
		if _, ok := storage.As[*memory.Store](s); !ok {
			t.Errorf("it's a %T", s)
		}
		if err := s.Close(); err != nil || c.closed != 1 {
			t.Errorf("it's closed %d times, %v", c.closed, err)
		}
	}
	c.closed = 0
	if _, err := f.write(t.Context(), "registry:other"); !errors.Is(err, errNone) || c.closed != 1 {
		t.Errorf("of another name: %v, and it's closed %d times", err, c.closed)
	}
	f.adapter = "b"
	if _, err := f.write(t.Context(), "registry:main"); err == nil || err.Error() != "registry:main: a.json by b" {
		t.Errorf("by another adapter: %v", err)
	}
}

// Whoever reads a folder of a configured registry that was written unsynced is told so.
func TestFoldersOfAConfiguration(t *testing.T) {
	t.Parallel()
	c := &configured{store: memory.New(), folders: []string{t.TempDir(), t.TempDir()}}
	if err := os.WriteFile(filepath.Join(c.folders[1], "_unsynced"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	f := storeFlags{caddy: c.caddy(), config: "a.json", adapter: "a"}
	if _, err := f.read(t.Context(), &said, "registry:main"); err != nil || !strings.HasPrefix(said.String(), c.folders[1]+" was written with sync off") {
		t.Errorf("it says %q, %v", said.String(), err)
	}
	c.folders = []string{filepath.Join(c.folders[0], "nowhere")}
	if _, err := f.read(t.Context(), &said, "registry:main"); err == nil || c.closed != 1 {
		t.Errorf("a folder that isn't there: %v, and it's closed %d times", err, c.closed)
	}
}

// What a URL names is opened by its scheme. A key in it is nowhere shown.
func TestStoreAtAURL(t *testing.T) {
	t.Parallel()
	var at string
	var wrote bool
	f := storeFlags{caddy: Caddy{Schemes: map[string]Opener{
		"bucket": func(_ context.Context, u *url.URL, write bool) (storage.Store, error) {
			at, wrote = u.String(), write
			return memory.New(), nil
		},
		"crate": func(context.Context, *url.URL, bool) (storage.Store, error) {
			return nil, errors.New("it's nailed shut")
		},
	}}}
	for _, write := range []bool{true, false} {
		s, err := f.open(t.Context(), "bucket://a/b?c=d", write)
		if err != nil {
			t.Fatal(err)
		}
		if at != "bucket://a/b?c=d" || wrote != write || len(s.folders) != 0 {
			t.Errorf("it's %s, to be written %t, in %q", at, wrote, s.folders)
		}
	}
	for of, want := range map[string]string{
		"floppy://a":                      "floppy://a: no stores are called floppy:// (there are bucket, crate)",
		"crate://a":                       "crate://a: it's nailed shut",
		"bucket://key:secret@a":           "bucket://…: keys in a URL would be for all to see",
		"bucket://key:secret@a/%zz":       "bucket://…: keys in a URL",
		"bucket://key:12/secret@a":        "bucket://…: keys in a URL",
		"bucket://key:secret/more@bucket": "bucket://…: keys in a URL",
		"bucket://a/%zz":                  "bucket://…: invalid URL escape",
	} {
		if _, err := f.open(t.Context(), of, false); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", of, err, want)
		}
	}
	const secret = "bucket://key:secret@a"
	if _, err := runCopy(t, copyOptions{from: secret, to: secret, storeFlags: f}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the secret is shown: %v", err)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for _, granted := range []bool{true, false} {
		c := &configured{answer: authz.Explanation{User: "erin", Granted: granted}}
		out, err := execute(t.Context(), newExplain(c.caddy()), "-c", "a.json", "-a", "a", "--group", "dev", "-g", "ops",
			"--provider", "ldap", "--from", "10.0.0.1", "erin", "push", "team/app:v1")
		if (err == nil) != granted || !granted && err.Error() != "refused" || out != c.answer.String() || c.closed != 1 {
			t.Errorf("granted %t: %q, %v; it's closed %d times", granted, out, err, c.closed)
		}
		if want := (authz.Supposed{
			User: "erin", Groups: []string{"dev", "ops"}, Provider: "ldap", Action: "push", Repository: "team/app", Reference: "v1", Client: "10.0.0.1",
		}); fmt.Sprint(c.asked) != fmt.Sprint(want) {
			t.Errorf("it's asked of %+v, want %+v", c.asked, want)
		}
		out, err = execute(t.Context(), newExplain(c.caddy()), "-c", "a.json", "-a", "a", "--json", "erin", "pull", "a@sha256:1")
		if (err == nil) != granted || !strings.Contains(out, fmt.Sprintf("\t\"granted\": %t,\n", granted)) || c.asked.Reference != "sha256:1" {
			t.Errorf("granted %t, as JSON: %s, %v", granted, out, err)
		}
	}
	c := new(configured)
	if _, err := execute(t.Context(), newExplain(c.caddy()), "-c", "a.json", "-a", "a", "-r", "other", "erin", "list"); !errors.Is(err, errNone) || c.closed != 1 {
		t.Errorf("of another name: %v; it's closed %d times", err, c.closed)
	}
}

func TestStateMove(t *testing.T) {
	t.Parallel()
	move := func(c *configured, args ...string) (string, error) {
		return execute(t.Context(), newState(c.caddy()), append([]string{"move", "-c", "a.json", "-a", "a"}, args...)...)
	}
	c := &configured{keys: []string{"token/keys", "apikey/a"}}
	want := "token/keys to store\napikey/a to store\n2 moved to store; the configuration has to say 'state store', or have that as the default\n"
	if out, err := move(c, "--to", "store"); err != nil || out != want || c.closed != 1 {
		t.Errorf("%s, %v; want %s; it's closed %d times", out, err, want, c.closed)
	}
	if out, err := move(c, "--to", "elsewhere"); err == nil || err.Error() != "--to elsewhere: want caddy or store" || c.closed != 1 {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := move(c, "--to", "caddy", "--registry", "other"); !errors.Is(err, errNone) || out != "" || c.closed != 2 {
		t.Errorf("%q, %v; it's closed %d times", out, err, c.closed)
	}
}
