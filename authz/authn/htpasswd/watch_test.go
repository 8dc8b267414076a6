package htpasswd_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn"
)

// holds is how long it takes at most until what the file says holds. It's a little
// less than 5 s, so that no test changes a file in the moment that somebody looks.
const holds = 4990 * time.Millisecond

// moves are the ways in which a file comes to have another content. Each returns the
// path, and what gives it the next one.
var moves = map[string]func(t *testing.T, content string) (*file, func(content string)){
	"in place": func(t *testing.T, content string) (*file, func(string)) {
		f := newFile(t, content)
		return f, func(content string) { f.write(t, content) }
	},
	"renamed": func(t *testing.T, content string) (*file, func(string)) {
		f := newFile(t, content)
		return f, func(content string) { f.replace(t, content) }
	},
	"removed and made again": func(t *testing.T, content string) (*file, func(string)) {
		f := newFile(t, content)
		return f, func(content string) { f.remove(t); time.Sleep(2 * time.Second); f.write(t, content) }
	},
	"as Kubernetes does it": kubernetes,
}

// kubernetes is a mounted Secret: htpasswd is a link to ..data/htpasswd, and ..data is
// one to a folder that is replaced.
func kubernetes(t *testing.T, content string) (*file, func(string)) {
	dir, n := t.TempDir(), 0
	f := &file{path: filepath.Join(dir, "htpasswd")}
	swap := func(content string) {
		n++
		folder := "..2026_" + string(rune('a'+n))
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		f.times = 0 // all have the same time
		f.writeTo(t, filepath.Join(dir, folder, "htpasswd"), content)
		if err := os.Symlink(folder, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Skip("no symbolic links")
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap(content)
	if err := os.Symlink(filepath.Join("..data", "htpasswd"), f.path); err != nil {
		t.Fatal(err)
	}
	return f, swap
}

func TestAChangeHolds(t *testing.T) {
	t.Parallel()
	for name, move := range moves {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				disk, change := move(t, alice)
				f, _ := disk.open(t)
				time.Sleep(holds)
				v := authn.NewVerified(f, authn.VerifiedOptions{TTL: time.Hour})
				for i, c := range []struct {
					content     string
					alice, bobs bool
				}{
					{locked, false, false}, // of the same size
					{aliceToo + bob, true, true},
					{bob, false, true},
					{alice + bob, true, true},
					{alice, true, false},
				} {
					change(c.content)
					time.Sleep(holds)
					for range 2 { // it's remembered
						if knows(t, v, "alice") != c.alice || knows(t, v, "bob") != c.bobs {
							t.Errorf("change %d: alice %t, bob %t", i, knows(t, v, "alice"), knows(t, v, "bob"))
						}
					}
					if err := f.Err(); err != nil {
						t.Errorf("change %d: %v", i, err)
					}
				}
			})
		})
	}
}

// What was written just before Open, and once more just after, may have the same time.
func TestAChangeAtOnceAfterOpen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		disk := newFile(t, alice)
		f, _ := disk.open(t)
		disk.times = 0
		disk.write(t, locked)
		time.Sleep(holds)
		if knows(t, f, "alice") {
			t.Error("alice is known by the old password")
		}
	})
}

// Whoever writes a file in place doesn't lock out those whose lines come later.
func TestAFileThatIsBeingWritten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		disk := newFile(t, alice+bob)
		f, log := disk.open(t)
		time.Sleep(holds)
		for range 3 {
			for _, part := range []string{"", alice, alice + bob[:20], alice + bob, alice + bob + "carol:" + hashes["6"] + "\n"} {
				disk.write(t, part)
				for range 4 {
					time.Sleep(100 * time.Millisecond)
					if !knows(t, f, "alice") || !knows(t, f, "bob") {
						t.Fatalf("once %d bytes are written: alice %t, bob %t", len(part), knows(t, f, "alice"), knows(t, f, "bob"))
					}
				}
			}
			time.Sleep(holds)
			if !knows(t, f, "carol") || f.Err() != nil {
				t.Errorf("carol isn't known: %v", f.Err())
			}
		}
		if text := log.take(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "users=3 changed=1 removed=0") {
			t.Errorf("the log says %s", text)
		}
	})
}

func TestAFileThatNeverComesToRest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		disk := newFile(t, alice)
		f, _ := disk.open(t)
		time.Sleep(10 * time.Millisecond)
		for range int(holds / (100 * time.Millisecond)) {
			disk.write(t, bob)
			time.Sleep(100 * time.Millisecond)
		}
		if knows(t, f, "alice") || !knows(t, f, "bob") {
			t.Error("the change doesn't hold")
		}
	})
}

// unreadable are changes of a file to what can't be read, and what's said of it.
var unreadable = map[string]struct {
	change func(t *testing.T, f *file)
	want   string
}{
	"a line without a colon": {func(t *testing.T, f *file) { f.write(t, "x\n"+alice) }, "line 1: no colon"},
	"torn in a line":         {func(t *testing.T, f *file) { f.write(t, (alice + bob)[:100]) }, "line 2: "},
	"torn in the first":      {func(t *testing.T, f *file) { f.write(t, alice[:30]) }, "line 1: "},
	"a hash that costs":      {func(t *testing.T, f *file) { f.replace(t, strings.Replace(alice, "$04$", "$31$", 1)) }, "cost 31"},
	"a name twice":           {func(t *testing.T, f *file) { f.replace(t, alice+locked) }, "line 1 once more"},
	"binary":                 {func(t *testing.T, f *file) { f.replace(t, strings.Repeat("\x00\xff", 1000)) }, "line 1: "},
	"zeros after a crash":    {func(t *testing.T, f *file) { f.replace(t, strings.Repeat("\x00", len(alice))) }, "line 1: "},
	"a folder": {func(t *testing.T, f *file) {
		f.remove(t)
		if err := os.Mkdir(f.path, 0o700); err != nil {
			t.Fatal(err)
		}
	}, "it isn't a file"},
	"a link to itself": {func(t *testing.T, f *file) {
		f.remove(t)
		if err := os.Symlink(f.path, f.path); err != nil {
			t.Skip("no symbolic links")
		}
	}, "stat "},
	"what can't be read": {func(t *testing.T, f *file) {
		f.remove(t)
		if err := os.Symlink("/proc/self/mem", f.path); err != nil || runtime.GOOS != "linux" {
			t.Skip("no such file")
		}
	}, "read "},
}

func TestAContentThatCanNotBeReadChangesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range unreadable {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				disk := newFile(t, alice+bob)
				f, log := disk.open(t)
				version := f.Version("alice")
				c.change(t, disk)
				time.Sleep(time.Hour + 10*time.Millisecond)
				if !knows(t, f, "alice") || !knows(t, f, "bob") || f.Version("alice") != version {
					t.Error("the old content doesn't count any more")
				}
				if err := f.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				if text := log.take(); strings.Count(text, "level=ERROR") != 1 || !strings.Contains(text, c.want) {
					t.Errorf("the log says, once: %s", text)
				}
				disk.remove(t)
				disk.replace(t, alice+bob)
				time.Sleep(holds)
				if err := f.Err(); err != nil || f.Version("alice") != version {
					t.Errorf("once it's as before: %v", err)
				}
				if text := log.take(); strings.Count(text, "level=INFO") != 1 {
					t.Errorf("the log says, once it's as before: %s", text)
				}
			})
		})
	}
}

// A file that's gone opens nothing, and keeps nothing open.
func TestAFileThatIsGone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(t *testing.T, f *file)
		want   string
	}{
		"removed":       {func(t *testing.T, f *file) { f.remove(t) }, "it is gone"},
		"emptied":       {func(t *testing.T, f *file) { f.write(t, "") }, "it has no users"},
		"only comments": {func(t *testing.T, f *file) { f.replace(t, "# nobody\n") }, "it has no users"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				disk := newFile(t, alice)
				f, log := disk.open(t)
				v := authn.NewVerified(f, authn.VerifiedOptions{})
				if !knows(t, v, "alice") {
					t.Fatal("alice isn't known")
				}
				c.change(t, disk)
				time.Sleep(2900 * time.Millisecond)
				if !knows(t, v, "alice") {
					t.Error("after 2.9 s alice isn't known")
				}
				time.Sleep(holds - 2900*time.Millisecond)
				if knows(t, v, "alice") || knows(t, f, "nobody") || f.Version("alice") != 0 {
					t.Error("after 5 s alice is known")
				}
				if _, err := f.Lookup(t.Context(), "alice"); !errors.Is(err, authn.ErrRefused) {
					t.Errorf("looked up: %v", err)
				}
				if err := f.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				if text := log.take(); !strings.Contains(text, c.want) || strings.Count(text, "level=ERROR") != 2 {
					t.Errorf("the log says %s", text)
				}
				disk.replace(t, locked)
				time.Sleep(holds)
				if knows(t, v, "alice") {
					t.Error("alice has her old password back")
				}
				disk.replace(t, alice+bob)
				time.Sleep(holds)
				if !knows(t, v, "alice") || !knows(t, v, "bob") || f.Err() != nil {
					t.Errorf("once it's back: alice %t, bob %t, %v", knows(t, v, "alice"), knows(t, v, "bob"), f.Err())
				}
			})
		})
	}
}

// For a moment it's away while it's replaced.
func TestAFileThatIsAwayForAMoment(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		disk := newFile(t, alice)
		f, _ := disk.open(t)
		version := f.Version("alice")
		time.Sleep(10 * time.Millisecond)
		for range 20 {
			disk.remove(t)
			time.Sleep(2 * time.Second)
			disk.write(t, alice)
			time.Sleep(2 * time.Second)
			if !knows(t, f, "alice") || f.Version("alice") != version || f.Err() != nil {
				t.Fatalf("alice isn't known, or is another one: %v", f.Err())
			}
		}
	})
}

// It may be the same file that comes back.
func TestAFileThatWasMovedAwayAndBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		disk := newFile(t, alice)
		f, _ := disk.open(t)
		for _, known := range []bool{true, false, true} {
			time.Sleep(holds)
			if knows(t, f, "alice") != known {
				t.Errorf("alice is known: %t, want %t", !known, known)
			}
			from, to := disk.path, disk.path+".away"
			if !known {
				from, to = to, from
			}
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestOnlyUsersThatChangeHaveAnotherVersion(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		disk := newFile(t, alice+bob)
		f, _ := disk.open(t)
		given := map[uint64]bool{}
		bobs, last := f.Version("bob"), f.Version("alice")
		for _, content := range []string{locked + bob, bob + "# and\n" + alice, aliceToo + bob, bob + locked} {
			disk.replace(t, content)
			time.Sleep(holds)
			if f.Version("bob") != bobs {
				t.Errorf("bob is at %d, was at %d", f.Version("bob"), bobs)
			}
			given[last] = true
			if last = f.Version("alice"); given[last] || last == 0 {
				t.Errorf("alice is at %d again", last)
			}
		}
		disk.replace(t, bob)
		time.Sleep(holds)
		if f.Version("alice") != 0 || f.Version("bob") != bobs {
			t.Errorf("without alice: %d, %d", f.Version("alice"), f.Version("bob"))
		}
	})
}

func TestAClosedFileStaysAsItWas(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		disk := newFile(t, alice)
		f, _ := disk.open(t)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		disk.remove(t)
		time.Sleep(time.Hour)
		if !knows(t, f, "alice") {
			t.Error("alice isn't known")
		}
	})
}
