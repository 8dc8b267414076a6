//go:build real

// Package backup copies the folder of the real program while clients push, by
// the commands that the documentation has, and shows that what is restored has
// what was acknowledged before, and is whole.
package backup

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/ledger"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// commands returns the block of docs/operations.md that is marked so, with other
// folders in it: pairs of what stands there and what it's replaced by.
func commands(t *testing.T, mark string, folders ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(tool.Root(t), "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```sh " + mark + "\n(.*?)^```$").FindSubmatch(text)
	if block == nil {
		t.Fatalf("docs/operations.md has no block that begins with ```sh %s", mark)
	}
	script := string(block[1])
	for i := 0; i < len(folders); i += 2 {
		if !strings.Contains(script, folders[i]) {
			t.Fatalf("%s isn't in\n%s", folders[i], script)
		}
	}
	return strings.NewReplacer(folders...).Replace(script)
}

func TestBackup(t *testing.T) {
	t.Parallel()
	tool.Find(t, "rsync")
	for _, with := range []string{"rsync", "tar"} {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			root, to := t.TempDir(), filepath.Join(t.TempDir(), "backup")
			srv := registry.Serve(t, root)
			l := startLoad(t, srv)
			for round := range tool.Sized(3, 15) {
				l.round()
				l.Receive(l.idle)
				from := l.ledger.Now()
				copyRoot(t, commands(t, with, "/srv/registry", root, "/backup/registry", to), root, round%2 == 0)
				until := l.ledger.Now()
				l.Await(20)
				restored := filepath.Join(t.TempDir(), "restored")
				run(t, commands(t, "restore-"+with, "/srv/registry", restored, "/backup/registry", to))
				checkRestored(t, restored, l.ledger, from, until)
				if err := os.RemoveAll(restored); err != nil { // it grows from round to round
					t.Fatal(err)
				}
			}
			turns := l.Stop()
			now := l.ledger.Now()
			l.ledger.Check(t, srv, now, now)
			t.Logf("%d turns of clients, %d tags", turns, l.ledger.Len())
		})
	}
}

// copyRoot makes a backup. With slowly it waits between two commands until the
// log of a repository has been folded into its index.json, twice.
func copyRoot(t *testing.T, script, root string, slowly bool) {
	t.Helper()
	if !slowly {
		run(t, script)
		return
	}
	const before = `
fold() {
	was=$(stat -c %%y %[1]s)
	until [ "$(stat -c %%y %[1]s)" != "$was" ]; do sleep 0.02; done
}
between() {
	case $BASH_COMMAND in copy*|pack*) ;; *) return ;; esac
	test -z "$begun" || { fold; fold; }
	begun=yes
}
trap between DEBUG
`
	index := filepath.Join(root, logged, "index.json")
	shell(t, "bash").Run("-c", fmt.Sprintf(before, index)+script)
}

// run runs commands in what a user may have for a shell.
func run(t *testing.T, script string) string {
	t.Helper()
	return shell(t, "sh").Run("-c", script)
}

// shell has the time that a copy may take before it's taken to hang. In a soak's 15 rounds
// there's more and more to be copied.
func shell(t *testing.T, name string) *tool.Tool {
	t.Helper()
	s := tool.Find(t, name)
	s.Limit = time.Duration(tool.Sized(2, 20)) * time.Minute
	return s
}

// checkRestored serves a restored root, and reads all that it names.
func checkRestored(t *testing.T, root string, l *ledger.Ledger, from, until ledger.Moment) {
	t.Helper()
	if said := run(t, commands(t, "check", "/backup/registry", root)); said != "" {
		t.Fatalf("the check says\n%s", said)
	}
	wantShared(t, root)
	srv := registry.Serve(t, root)
	l.Check(t, srv, from, until)
	c := image.Random(1, 2, 10_000)
	srv.Push(c, logged, "after")
	srv.Check(logged, "after", c)
	srv.Stop()
	for _, name := range repositories {
		wantWhole(t, filepath.Join(root, name))
	}
}

// wantShared fails the test unless a layer that all repositories have is there once.
func wantShared(t *testing.T, root string) {
	t.Helper()
	inodes := make(map[uint64]bool)
	links := 0
	for _, name := range repositories {
		fi, err := os.Stat(filepath.Join(root, name, "blobs", "sha256", sharedBlob.Digest.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		inodes[fi.Sys().(*syscall.Stat_t).Ino] = true
		links = int(fi.Sys().(*syscall.Stat_t).Nlink)
	}
	if len(inodes) != 1 || links != len(repositories)+1 { // and the pool's
		t.Fatalf("a shared layer is there %d times, with %d links", len(inodes), links)
	}
}

// wantWhole reads everything that an index.json names, tagged or not.
func wantWhole(t *testing.T, layout string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, desc := range index.Manifests {
		if seen[desc.Digest.String()] {
			continue
		}
		seen[desc.Digest.String()] = true
		if _, err := image.Verify(t.Context(), image.Layout(layout), desc); err != nil {
			t.Error(err)
		}
	}
}

// TestCheckNoticesDamage shows that the documented check finds a damaged blob.
func TestCheckNoticesDamage(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	c := image.Random(1, 2, 10_000)
	srv.Push(c, "team/app", "v1")
	script := commands(t, "check", "/backup/registry", srv.Root)
	run(t, script)
	blob := filepath.Join(srv.Root, "team/app/blobs/sha256", c.Blobs[0].Digest.Encoded())
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, c.Blobs[0].Bytes[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := tool.Find(t, "sh").Try("-c", script)
	if err == nil || !strings.Contains(said, c.Blobs[0].Digest.Encoded()) {
		t.Fatalf("the check of a damaged blob says %q, %v", said, err)
	}
}

// TestRestoreWithoutLinks restores a copy that has lost its hard links, and so
// its pool.
func TestRestoreWithoutLinks(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	c := image.Random(1, 2, 100_000)
	for _, name := range []string{"a", "b"} {
		srv.Push(c, name, "v1")
	}
	srv.Stop()
	root := filepath.Join(t.TempDir(), "restored")
	if err := os.CopyFS(root, os.DirFS(srv.Root)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "_pool")); err != nil {
		t.Fatal(err)
	}
	srv = registry.Serve(t, root)
	for _, name := range []string{"a", "b"} {
		srv.Check(name, "v1", c)
	}
	for _, name := range []string{"c", "d"} {
		srv.Push(c, name, "v1")
		srv.Check(name, "v1", c)
	}
	layer := filepath.Join("blobs/sha256", c.Blobs[0].Digest.Encoded())
	if !sameFile(t, filepath.Join(root, "c", layer), filepath.Join(root, "d", layer)) {
		t.Fatal("what was pushed after the restoring isn't shared")
	}
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	infos := make([]fs.FileInfo, 0, 2)
	for _, name := range []string{a, b} {
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, fi)
	}
	return os.SameFile(infos[0], infos[1])
}

// TestIncrementalBackup makes a copy over one of the same second: files of the
// same size and time have changed, and what is gone goes.
func TestIncrementalBackup(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	to := filepath.Join(t.TempDir(), "backup")
	script := commands(t, "rsync", "/srv/registry", srv.Root, "/backup/registry", to)
	one, two := image.Random(1, 1, 10_000), image.Random(2, 1, 10_000)
	srv.Push(one, "app", "v1")
	srv.Push(two, "app", "v2")
	srv.Push(one, "gone", "v1")
	index := filepath.Join(srv.Root, "app", "index.json")
	now := time.Now()
	sameTime(t, index, now)
	run(t, script)
	srv.Push(two, "app", "v1")
	srv.Push(one, "app", "v2")
	sameTime(t, index, now)
	if err := os.RemoveAll(filepath.Join(srv.Root, "gone")); err != nil {
		t.Fatal(err)
	}
	run(t, script)
	image.Layout(filepath.Join(to, "app")).Check(t, "v1", two)
	image.Layout(filepath.Join(to, "app")).Check(t, "v2", one)
	if _, err := os.Stat(filepath.Join(to, "gone")); !os.IsNotExist(err) {
		t.Fatalf("a repository that was removed is in the backup: %v", err)
	}
}

func sameTime(t *testing.T, name string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
}
