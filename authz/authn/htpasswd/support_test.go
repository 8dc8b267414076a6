package htpasswd_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/htpasswd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inBubble runs f on a clock of its own, beside other tests.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// password is the one of all hashes here, which crypt(3) and argon2(1) have made of it.
const password = "Grüße: a:b "

// hashes are one of each kind, by a name.
var hashes = map[string]string{
	"2y":       "$2y$04$abcdefghijklmnopqrstuu9N5EFOO7.c0HpyAYV.62fdUQKfWL346",
	"2b":       "$2b$04$abcdefghijklmnopqrstuu9N5EFOO7.c0HpyAYV.62fdUQKfWL346",
	"2a":       "$2a$05$abcdefghijklmnopqrstuuHFIU4QkVNoUNK9sn7voMyapmsdq02VG",
	"5":        "$5$saltstring$pCVY18WpM2rZFTL7nIqb8qcZ75apDQsF8gKiJLyarS9",
	"5 rounds": "$5$rounds=1000$saltstringsaltst$Cafj3BPg.xblnbsPmKpVbHWVQC9KRbmXMdRDfrrZZlA",
	"6":        "$6$saltstring$G/aQLxdr.hp6SKtChSMyRxQR.Hb.v4mM39F0XVrVO6HKwqcGm0PP6fLw/wxQNTgDjUiHOmMdle9baQYnE6gZB1",
	"6 rounds": "$6$rounds=12345$abcdefgh$xw28ICfnq8lFL0CalwpZKr76UVa7C4KWOHIjUAAqjwj9TA.3YUkynU1hKXE4RSZcBTLMsjv9ir5W2FVtGtsvm1",
	"argon2id": "$argon2id$v=19$m=1024,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$Skv5I0nQuvKu4xcwINefO2N8XiX+Xsqv0x0j+5vLt8c",
	"other":    "$2y$04$zzzzzzzzzzzzzzzzzzzzzuEkKZsSLGREFL2cVMpGTvLMjHzbkVVQG", // of another password
}

// What most tests have in the file: alice's password is password.
var (
	alice    = "alice:" + hashes["2y"] + "\n"
	aliceToo = "alice:" + hashes["2b"] + "\n" // with another hash of the same
	locked   = "alice:" + hashes["other"] + "\n"
	bob      = "bob:" + hashes["2y"] + "\n"
)

// file is one that a test changes.
type file struct {
	path  string
	times int // how often it was written
}

func newFile(t *testing.T, content string) *file {
	t.Helper()
	f := &file{path: filepath.Join(t.TempDir(), "htpasswd")}
	f.write(t, content)
	return f
}

// write writes in place. Its time is another one each time, as it would be if the
// test's clock were the file system's.
func (f *file) write(t *testing.T, content string) {
	t.Helper()
	f.writeTo(t, f.path, content)
}

func (f *file) writeTo(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f.times++
	at := time.Date(2020, 1, 1, 0, 0, f.times, 0, time.UTC)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// replace renames another file to it.
func (f *file) replace(t *testing.T, content string) {
	t.Helper()
	next := f.path + ".tmp"
	f.writeTo(t, next, content)
	if err := os.Rename(next, f.path); err != nil {
		t.Fatal(err)
	}
}

func (f *file) remove(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(f.path); err != nil {
		t.Fatal(err)
	}
}

// lines is a log that can be read while it's written.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

// take returns what was written since.
func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.all.Reset()
	return l.all.String()
}

// open opens a file until the test ends. Nothing secret is ever in its log.
func (f *file) open(t *testing.T) (*htpasswd.File, *lines) {
	t.Helper()
	log := &lines{}
	all := &lines{}
	opened, err := htpasswd.Open(f.path, htpasswd.Options{Log: slog.New(slog.NewTextHandler(both{log, all}, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = opened.Close()
		if text := all.take(); strings.Contains(text, "$") || strings.Contains(text, "alice") || strings.Contains(text, "bob") {
			t.Errorf("the log shows what's in the file: %s", text)
		}
	})
	return opened, log
}

type both [2]*lines

func (b both) Write(p []byte) (int, error) {
	_, _ = b[0].Write(p)
	return b[1].Write(p)
}

// knows reports whether a source knows a user with the password.
func knows(t *testing.T, src authn.Source, user string) bool {
	t.Helper()
	_, err := src.Authenticate(t.Context(), user, password)
	if err != nil && !errors.Is(err, authn.ErrRefused) {
		t.Errorf("%s: %v", user, err)
	}
	return err == nil
}
