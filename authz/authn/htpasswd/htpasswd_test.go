package htpasswd_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/authntest"
	"github.com/caddy-oci/oci-registry/authz/authn/htpasswd"
)

func TestEveryHashIsASource(t *testing.T) {
	t.Parallel()
	for kind, hash := range hashes {
		if kind == "other" {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f, _ := newFile(t, "zoe:"+hashes["other"]+"\nalice:"+hash+"\n").open(t)
			authntest.Source(t, f, authntest.User{Name: "alice", Password: password, Provider: "htpasswd"})
		})
	}
}

func TestNamesAndLines(t *testing.T) {
	t.Parallel()
	hash := hashes["2y"]
	for name, content := range map[string]string{
		"one line":             "alice:" + hash + "\n",
		"no end of line":       "alice:" + hash,
		"comments, blanks":     "# our users\n\n#bob:x\n  \t\nalice:" + hash + "\n\n#",
		"lines of Windows":     "\ufeff# our users\r\n\r\nalice:" + hash + "\r\n",
		"a comment after":      "alice:" + hash + ":of the release team\n",
		"blanks after":         "alice:" + hash + "  \n",
		"others before, after": bob + "alice:" + hash + "\n" + "carol:" + hashes["6"] + "\n",
	} {
		f, _ := newFile(t, content).open(t)
		if !knows(t, f, "alice") {
			t.Errorf("%s: alice isn't known", name)
		}
		if name == "comments, blanks" && (knows(t, f, "bob") || knows(t, f, "#bob")) {
			t.Error("a comment is a user")
		}
	}
	for _, user := range []string{"alice@example.org", "Grüße 世界", `DOMAIN\alice`, " alice", "alice ", "a#b", strings.Repeat("a", 500)} {
		f, _ := newFile(t, user+":"+hash+"\n").open(t)
		if !knows(t, f, user) {
			t.Errorf("%q isn't known", user)
		}
		if knows(t, f, "alice") {
			t.Errorf("alice is taken for %q", user)
		}
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	disk := newFile(t, alice)
	f, err := htpasswd.Open(disk.path, htpasswd.Options{Provider: "team"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	who, err := f.Authenticate(t.Context(), "alice", password)
	if err != nil || who.ID != "alice" || who.Provider != "team" || len(who.Groups) > 0 || who.Limit != nil {
		t.Errorf("%+v, %v", who, err)
	}
	if who, err = f.Lookup(t.Context(), "alice"); err != nil || who.ID != "alice" || who.Provider != "team" {
		t.Errorf("looked up: %+v, %v", who, err)
	}
	if _, err = f.Lookup(t.Context(), "bob"); !errors.Is(err, authn.ErrRefused) {
		t.Errorf("bob is looked up: %v", err)
	}
	if f.Version("alice") == 0 || f.Version("bob") != 0 {
		t.Errorf("versions %d, %d", f.Version("alice"), f.Version("bob"))
	}
	if err := f.Err(); err != nil {
		t.Error(err)
	}
}

// TestGeneration: it's another one for another hash, and the same for every File.
func TestGeneration(t *testing.T) {
	t.Parallel()
	generation := func(content string) string {
		f, _ := newFile(t, content).open(t)
		g, err := f.Generation(t.Context(), "alice")
		if err != nil || g == "" || strings.Contains(content, g) {
			t.Fatalf("%q, %v", g, err)
		}
		if _, err := f.Generation(t.Context(), "carol"); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("of nobody: %v", err)
		}
		return g
	}
	if generation(alice) != generation(bob+alice) {
		t.Error("it isn't the same in another file")
	}
	if generation(alice) == generation(locked) {
		t.Error("it's the same for another hash")
	}
}

// faults are lines that are wrong, and what is said of them.
var faults = map[string]struct{ line, want string }{
	"no colon":             {"secret", "no colon"},
	"no name":              {":" + hashes["2y"], "no name"},
	"no hash":              {"secret:", "no hash that is known"},
	"plain text":           {"secret:secret", "no hash that is known"},
	"apr1":                 {"secret:$apr1$secret$secret", "MD5"},
	"MD5":                  {"secret:$1$secret$secret", "MD5"},
	"SHA-1":                {"secret:{SHA}secret", "SHA-1"},
	"DES":                  {"secret:secretsecret1", "no hash that is known"},
	"yescrypt":             {"secret:$y$j9T$secret$secret", "no hash that is known"},
	"argon2i":              {"secret:$argon2i$v=19$m=1024,t=2,p=2$c29tZXNhbHQ$c2VjcmV0c2VjcmV0c2VjcmV0", "no hash that is known"},
	"bcrypt without a":     {"secret:$2$04$abcdefghijklmnopqrstuu9N5EFOO7.c0HpyAYV.62fdUQKfWL346", "no hash that is known"},
	"bcrypt, torn":         {"secret:$2y$04$abcdefghijklmnopqrstuu9N5EFOO7.c0HpyAYV.62fdUQKfWL34", "isn't whole"},
	"bcrypt, very torn":    {"secret:$2y$", "isn't whole"},
	"bcrypt, longer":       {"secret:$2y$04$abcdefghijklmnopqrstuu9N5EFOO7.c0HpyAYV.62fdUQKfWL346x", "isn't whole"},
	"bcrypt, odd letters":  {"secret:$2y$04$abcdefghijklmnopqrst!u9N5EFOO7.c0HpyAYV.62fdUQKfWL346", "isn't whole"},
	"bcrypt, cost 3":       {"secret:$2y$03$abcdefghijklmnopqrstuu9N5EFOO7.c0HpyAYV.62fdUQKfWL346", "isn't whole"},
	"bcrypt, cost 17":      {"secret:$2y$17$abcdefghijklmnopqrstuu9N5EFOO7.c0HpyAYV.62fdUQKfWL346", "cost 17: at most 16"},
	"bcrypt, cost 31":      {"secret:$2b$31$abcdefghijklmnopqrstuu9N5EFOO7.c0HpyAYV.62fdUQKfWL346", "cost 31: at most 16"},
	"bcrypt, cost 99":      {"secret:$2b$99$abcdefghijklmnopqrstuu9N5EFOO7.c0HpyAYV.62fdUQKfWL346", "isn't whole"},
	"bcrypt, cost -4":      {"secret:$2b$-4$abcdefghijklmnopqrstuu9N5EFOO7.c0HpyAYV.62fdUQKfWL346", "isn't whole"},
	"SHA-256, torn":        {"secret:$5$saltstring$pCVY18WpM2rZFTL7nIqb8qcZ75apDQsF8gKiJLyarS", "isn't whole"},
	"SHA-512 as SHA-256":   {"secret:" + strings.Replace(hashes["6"], "$6$", "$5$", 1), "isn't whole"},
	"SHA, no salt":         {"secret:$5$$pCVY18WpM2rZFTL7nIqb8qcZ75apDQsF8gKiJLyarS9", "isn't whole"},
	"SHA, long salt":       {"secret:$5$saltstringsaltstr$pCVY18WpM2rZFTL7nIqb8qcZ75apDQsF8gKiJLyarS9", "isn't whole"},
	"SHA, 999 rounds":      {"secret:$5$rounds=999$saltstring$pCVY18WpM2rZFTL7nIqb8qcZ75apDQsF8gKiJLyarS9", "want 1000 to 5000000"},
	"SHA, 10^9 rounds":     {"secret:$6$rounds=1000000000$" + strings.TrimPrefix(hashes["6"], "$6$"), "want 1000 to 5000000"},
	"SHA, 10^30 rounds":    {"secret:$6$rounds=1" + strings.Repeat("0", 30) + "$" + strings.TrimPrefix(hashes["6"], "$6$"), "want 1000 to 5000000"},
	"SHA, no rounds":       {"secret:$6$rounds=$" + strings.TrimPrefix(hashes["6"], "$6$"), "want 1000 to 5000000"},
	"argon2id, torn":       {"secret:$argon2id$v=19$m=1024,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$Skv5I0nQuvKu4xcwI", "isn't whole"},
	"argon2id, no key":     {"secret:$argon2id$v=19$m=1024,t=2,p=2$c29tZXNhbHRzb21lc2FsdA", "isn't whole"},
	"argon2id, v=16":       {"secret:" + strings.Replace(hashes["argon2id"], "v=19", "v=16", 1), "isn't whole"},
	"argon2id, 4 GiB":      {"secret:" + strings.Replace(hashes["argon2id"], "m=1024", "m=4194304", 1), "m=4194304: at most 1048576"},
	"argon2id, 5 x 1 GiB":  {"secret:" + strings.Replace(hashes["argon2id"], "m=1024,t=2", "m=1048576,t=5", 1), "m=1048576,t=5"},
	"argon2id, 2^32-1":     {"secret:" + strings.Replace(hashes["argon2id"], "t=2", "t=4294967295", 1), "t=4294967295"},
	"argon2id, 2^32":       {"secret:" + strings.Replace(hashes["argon2id"], "m=1024", "m=4294967296", 1), "isn't whole"},
	"argon2id, no passes":  {"secret:" + strings.Replace(hashes["argon2id"], "t=2", "t=0", 1), "isn't whole"},
	"argon2id, no lanes":   {"secret:" + strings.Replace(hashes["argon2id"], ",p=2", "", 1), "isn't whole"},
	"argon2id, 256 lanes":  {"secret:" + strings.Replace(hashes["argon2id"], "p=2", "p=256", 1), "isn't whole"},
	"argon2id, short salt": {"secret:" + strings.Replace(hashes["argon2id"], "c29tZXNhbHRzb21lc2FsdA", "c2FsdA", 1), "isn't whole"},
	"argon2id, long key":   {"secret:" + hashes["argon2id"] + strings.Repeat("A", 100), "isn't whole"},
	"a NUL":                {"al\x00ice:" + hashes["2y"], "control characters"},
	"an escape":            {"al\x1b[2Jice:" + hashes["2y"], "control characters"},
	"no UTF-8":             {"al\xffice:" + hashes["2y"], "UTF-8"},
	"long":                 {strings.Repeat("a", 4100) + ":" + hashes["2y"], "longer than 4096 bytes"},
	"twice":                {"bob:" + hashes["2y"], "line 2 once more"},
}

func TestLinesThatCanNotBeRead(t *testing.T) {
	t.Parallel()
	for name, c := range faults {
		err := htpasswd.Parse("# our users\n" + bob + c.line + "\n" + alice)
		if err == nil || !strings.HasPrefix(err.Error(), "line 3: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want line 3 and %q", name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "abcdef") || strings.Contains(err.Error(), "bob")) {
			t.Errorf("%s: the error shows what's in the line: %v", name, err)
		}
	}
}

func TestAllLinesThatCanNotBeReadAreNamed(t *testing.T) {
	t.Parallel()
	err := htpasswd.Parse(alice + "x\n" + bob + "y\n")
	if want := "line 2: no colon: want name:hash; line 4: no colon: want name:hash"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	err = htpasswd.Parse(strings.Repeat("x\n", 1000))
	if err == nil || len(err.Error()) > 1000 || !strings.HasSuffix(err.Error(), "; and 990 more") {
		t.Errorf("%v", err)
	}
}

func TestFilesThatCanNotBeOpened(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T) string
		want    string
	}{
		"none":         {func(t *testing.T) string { return filepath.Join(t.TempDir(), "none") }, "no such file"},
		"a folder":     {func(t *testing.T) string { return t.TempDir() }, "it isn't a file"},
		"a device":     {func(*testing.T) string { return os.DevNull }, "it isn't a file"},
		"empty":        {func(t *testing.T) string { return newFile(t, "").path }, "it has no users"},
		"comments":     {func(t *testing.T) string { return newFile(t, "# alice\n\n").path }, "it has no users"},
		"a wrong line": {func(t *testing.T) string { return newFile(t, alice+"x\n").path }, "line 2: no colon"},
		"huge": {func(t *testing.T) string {
			f := newFile(t, alice)
			if err := os.Truncate(f.path, 16<<20+1); err != nil {
				t.Fatal(err)
			}
			return f.path
		}, "more than 16 MiB"},
	} {
		path := c.prepare(t)
		f, err := htpasswd.Open(path, htpasswd.Options{})
		if err == nil {
			t.Errorf("%s: it's open", name)
			_ = f.Close()
			continue
		}
		if !strings.Contains(err.Error(), c.want) && c.want != "no such file" || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Whoever asks for names that may exist can't tell by how long it takes: each time one
// password is hashed, and what it's hashed for is one of the file's own.
func TestEveryAnswerCostsOneHash(t *testing.T) {
	inBubble(t, func(t *testing.T) { // whose clock stands still, so that the file isn't read again
		f, _ := newFile(t, alice+"bob:"+hashes["5 rounds"]+"\n"+"carol:"+hashes["argon2id"]+"\n").open(t)
		took := htpasswd.Counted(f)
		for _, c := range [][2]string{{"alice", password}, {"alice", "wrong"}, {"bob", password}, {"bob", "wrong"}, {"nobody", password}, {"nobody", "wrong"}} {
			_, _ = f.Authenticate(t.Context(), c[0], c[1])
			if n := took(); n[0]+n[1]+n[2] != 1 {
				t.Errorf("%s with %q: %v hashes", c[0], c[1], n)
			}
		}
		drawn := map[string]bool{}
		for i := range 50 {
			name := fmt.Sprint("nobody", i)
			var costs [2]string // always the same for one name
			for j := range costs {
				if _, err := f.Authenticate(t.Context(), name, "x"); !errors.Is(err, authn.ErrRefused) {
					t.Fatal(err)
				}
				costs[j] = fmt.Sprint(took())
			}
			if costs[0] != costs[1] {
				t.Errorf("%s: first %s and then %s", name, costs[0], costs[1])
			}
			drawn[costs[0]] = true
		}
		for _, want := range []string{"[1 0 0]", "[0 1 0]", "[0 0 1]"} {
			if !drawn[want] || len(drawn) != 3 {
				t.Errorf("names nobody has cost %v", drawn)
			}
		}
	})
}

// What is refused unseen is so for everybody.
func TestPasswordsThatAreNotHashed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f, _ := newFile(t, alice).open(t)
		took := htpasswd.Counted(f)
		for _, p := range []string{"", strings.Repeat("x", 1025), password + "\x00" + password} {
			for _, user := range []string{"alice", "nobody"} {
				if _, err := f.Authenticate(t.Context(), user, p); !errors.Is(err, authn.ErrRefused) {
					t.Errorf("%s with %.20q: %v", user, p, err)
				}
				if n := took(); n[0] != 0 {
					t.Errorf("%s with %.20q: %v hashes", user, p, n)
				}
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(alice + bob)
	for _, c := range faults {
		f.Add(c.line)
	}
	f.Fuzz(func(t *testing.T, content string) {
		if err := htpasswd.Parse(content); err == nil && (!strings.Contains(content, ":") || !strings.Contains(content, "$")) {
			t.Errorf("%q has users", content)
		}
	})
}
