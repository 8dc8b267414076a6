package filesystem_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// logged pushes so that index.json has v0 and the log has v1 to v3, a retag and
// an untag. The store stays open, and doesn't fold for now.
func logged(t testing.TB, s storage.Store) (r repo, images []oci.Manifest) {
	t.Helper()
	r = repository(t, s, "a/b")
	for i := range 4 {
		images = append(images, image(t, fmt.Sprint("v", i), r.pushBlob(fmt.Sprint("layer ", i))))
		r.push(images[i], fmt.Sprint("v", i), "latest")
	}
	r.push(images[0], "old", "gone")
	r.delete("gone")
	return r, images
}

func wantLogged(t testing.TB, s storage.Store, images []oci.Manifest) {
	t.Helper()
	r := repository(t, s, "a/b")
	r.wantTags("latest", "old", "v0", "v1", "v2", "v3")
	for i, m := range images {
		r.want(fmt.Sprint("v", i), m)
	}
	r.want("latest", images[3])
	r.want("old", images[0])
}

const logFile = "_repos/a,b/log"

func TestLogHasWhatIndexLacks(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		_, images := logged(t, open(t, root, filesystem.Options{LogFrom: 1}))
		killed := snapshot(t, root)
		if !exists(t, killed, logFile) {
			t.Fatal("there's no log")
		}
		wantIndex(t, killed, map[string]digest.Digest{"v0": images[0].Digest, "latest": images[0].Digest})
		wantLogged(t, open(t, killed, filesystem.Options{}), images)
	})
}

func TestLogIsFoldedAtClose(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		s := open(t, root, filesystem.Options{LogFrom: 1})
		r, _ := logged(t, s)
		want := r.tags()
		shut(t, s)
		if exists(t, root, logFile) {
			t.Fatal("there's a log after Close")
		}
		wantIndex(t, root, want)
		if read(t, root, "_repos/a,b/index.json") != read(t, root, "a/b/index.json") {
			t.Fatal("the copy of index.json is another one")
		}
	})
}

func TestLogIsFoldedWhenIdle(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		s := open(t, root, filesystem.Options{LogFrom: 1})
		r, _ := logged(t, s)
		want := r.tags()
		time.Sleep(time.Second)
		synctest.Wait()
		if exists(t, root, logFile) {
			t.Fatal("a second later there's a log")
		}
		wantIndex(t, root, want)
		r.push(image(t, "next"), "next") // the log begins anew
		r.delete("old")
		if !exists(t, root, logFile) {
			t.Fatal("there's no log")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		wantIndex(t, root, r.tags())
	})
}

func TestLogIsFoldedAtStart(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		_, images := logged(t, open(t, root, filesystem.Options{LogFrom: 1}))
		killed := snapshot(t, root)
		s := open(t, killed, filesystem.Options{})
		time.Sleep(time.Second)
		synctest.Wait()
		if exists(t, killed, logFile) { // though nobody has asked for the repository
			t.Fatal("there's a log a second after the start")
		}
		want := repository(t, s, "a/b").tags()
		wantIndex(t, killed, want)
		wantLogged(t, s, images)
	})
}

func TestLogBeginsAtItsThreshold(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		r := repository(t, open(t, root, filesystem.Options{LogFrom: 2000}), "a/b")
		for i := 0; !exists(t, root, logFile); i++ {
			before := 0
			if i > 0 {
				before = len(read(t, root, "a/b/index.json"))
			}
			r.push(image(t, fmt.Sprint(i)), fmt.Sprint("v", i))
			if logs := exists(t, root, logFile); logs != (before >= 2000) {
				t.Fatalf("at %d bytes of index.json there's a log: %t", before, logs)
			}
		}
	})
}

// TestLongLogIsFoldedHoweverBusy: other tools see what was pushed, if late, where
// somebody pushes without end.
func TestLongLogIsFoldedHoweverBusy(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		r := repository(t, open(t, root, filesystem.Options{LogFrom: 1}), "a/b")
		r.push(image(t, "m"), "v")
		first := read(t, root, "a/b/index.json")
		for n := 0; read(t, root, "a/b/index.json") == first; n++ {
			if n > 2000 {
				t.Fatalf("the log has %d bytes", len(read(t, root, logFile)))
			}
			tags := make([]string, 10)
			for i := range tags {
				tags[i] = fmt.Sprintf("%0100d-%d-%d", 0, n, i)
			}
			r.push(image(t, "m"), tags...)
			time.Sleep(50 * time.Millisecond) // less than a rest
			synctest.Wait()
		}
		if n := len(r.tags()); n < 3000 {
			t.Fatalf("it's folded at %d tags", n)
		}
	})
}

// TestLogBeginsSoonerWhileChangesCome: whoever pushes one image after the other
// doesn't write all the names each time, and whoever reads index.json sees a push
// at once, or all of them once it's quiet.
func TestLogBeginsSoonerWhileChangesCome(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		r := repository(t, open(t, root, filesystem.Options{}), "a/b")
		n := 0
		push := func() {
			t.Helper()
			r.push(image(t, fmt.Sprint(n)), fmt.Sprint("v", n))
			n++
		}
		for !exists(t, root, logFile) {
			if n > 100 {
				t.Fatalf("no log after %d pushes and at %d bytes of index.json", n, len(read(t, root, "a/b/index.json")))
			}
			push()
		}
		if size := len(read(t, root, "a/b/index.json")); size < 4<<10 {
			t.Fatalf("the log begins at %d bytes of index.json", size)
		}
		push()
		time.Sleep(time.Second)
		synctest.Wait()
		wantIndex(t, root, r.tags())
		push()
		wantIndex(t, root, r.tags())
		if exists(t, root, logFile) {
			t.Fatal("the first push after a rest began a log")
		}
	})
}

func TestLogIgnoresATornEnd(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		_, images := logged(t, open(t, root, filesystem.Options{LogFrom: 1}))
		for _, torn := range []string{"0", "00000000 {", "deadbeef {\"changes\":[{\"untag\":\"v1\"}]}\n", "\n", "x\ny\n"} {
			killed := snapshot(t, root)
			write(t, read(t, killed, logFile)+torn, killed, logFile)
			s := open(t, killed, filesystem.Options{LogFrom: 1})
			wantLogged(t, s, images)
			r := repository(t, s, "a/b")
			r.push(image(t, "more"), "more") // behind what was torn
			again := open(t, snapshot(t, killed), filesystem.Options{})
			repository(t, again, "a/b").want("more", image(t, "more"))
			repository(t, again, "a/b").want("latest", images[3])
		}
	})
}

func TestLogDamagedInTheMiddleBreaksTheRepository(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		_, images := logged(t, open(t, root, filesystem.Options{LogFrom: 1}))
		killed := snapshot(t, root)
		log := []byte(read(t, killed, logFile))
		log[len(log)/2] ^= 1
		write(t, string(log), killed, logFile)
		s := open(t, killed, filesystem.Options{})
		r := repository(t, s, "a/b")
		r.want("v1", images[1]) // the log says so before the damage
		r.wantBroken()
		other := repository(t, s, "other")
		other.push(image(t, "other"), "v1")
		shut(t, s)
		if read(t, killed, logFile) != string(log) {
			t.Fatal("the damaged log was changed")
		}
	})
}

// A log that a later release has written, or nobody knows who, isn't taken for
// what's left of it: folding it would lose the rest.
func TestLogWithAnUnknownChangeBreaksTheRepository(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		_, images := logged(t, open(t, root, filesystem.Options{LogFrom: 1}))
		for _, body := range []string{
			`{"changes":[{"mount":"x"}]}`, `{"changes":[{}]}`, `{"changes":[{"put":{"digest":"x"}}]}`, `{"changes":[{"delete":"x"}]}`,
			`{"changes":[{"tag":"v1"}]}`, `{"changes":[{"tag":"-","digest":"` + images[0].Digest.String() + `"}]}`, `{"changes":[{"untag":"/"}]}`,
		} {
			killed := snapshot(t, root)
			log := read(t, killed, logFile) + record(body)
			write(t, log, killed, logFile)
			s := open(t, killed, filesystem.Options{})
			r := repository(t, s, "a/b")
			r.want("v1", images[1])
			r.wantBroken()
			shut(t, s)
			if read(t, killed, logFile) != log {
				t.Fatalf("%s: the log was changed", body)
			}
		}
	})
}

// interrupted is a root at the moment between the renaming that ends a fold and
// the removal of the log.
func interrupted(t *testing.T) (root string, images []oci.Manifest) {
	t.Helper()
	live := t.TempDir()
	s := open(t, live, filesystem.Options{LogFrom: 1})
	_, images = logged(t, s)
	before := read(t, live, logFile)
	shut(t, s)
	root = snapshot(t, live)
	sum := digest.FromString(read(t, root, "a/b/index.json"))
	body := fmt.Sprintf(`{"fold":%q,"base":%q,"staged":"tmp-x"}`, sum, digest.FromString("what was there before"))
	write(t, before+record(body), root, logFile)
	return root, images
}

func TestLogIsNotReplayedOverLaterChanges(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root, images := interrupted(t)
		// Another tool moves a tag before the registry starts again.
		index := read(t, root, "a/b/index.json")
		was, now := entry(images[3], "latest"), entry(images[1], "latest")
		moved := strings.Replace(index, was, now, 1)
		if moved == index {
			t.Fatalf("%s has no %s", index, was)
		}
		write(t, moved, root, "a/b/index.json")
		s := open(t, root, filesystem.Options{LogFrom: 1})
		r := repository(t, s, "a/b")
		r.want("latest", images[1])
		r.push(image(t, "more"), "more")
		shut(t, s)
		s = open(t, root, filesystem.Options{})
		r = repository(t, s, "a/b")
		r.want("latest", images[1])
		r.want("more", image(t, "more"))
	})
}

func TestLogIsReplayedOverChangesByOthers(t *testing.T) {
	frozen(t, func(t *testing.T) {
		live := t.TempDir()
		s := open(t, live, filesystem.Options{LogFrom: 1, Recheck: -1})
		r, images := logged(t, s)
		add := func(root, tag string) {
			index := read(t, root, "a/b/index.json")
			write(t, strings.Replace(index, `"manifests":[`, `"manifests":[`+entry(images[0], tag)+",", 1), root, "a/b/index.json")
		}
		add(live, "others")
		r.wantTags("latest", "old", "others", "v0", "v1", "v2", "v3")
		killed := snapshot(t, live)
		add(killed, "later")
		for range 2 {
			s := open(t, killed, filesystem.Options{LogFrom: 1})
			repository(t, s, "a/b").wantTags("later", "latest", "old", "others", "v0", "v1", "v2", "v3")
			shut(t, s)
			if left := files(t, killed, "_repos/a,b"); !slices.Equal(left, []string{"history", "index.json"}) {
				t.Fatalf("there's %v after a fold", left)
			}
		}
	})
}

func TestLogOfAFoldThatDidNotHappenIsReplayed(t *testing.T) {
	frozen(t, func(t *testing.T) {
		live := t.TempDir()
		_, images := logged(t, open(t, live, filesystem.Options{LogFrom: 1}))
		root := snapshot(t, live)
		base := digest.FromString(read(t, root, "a/b/index.json"))
		body := fmt.Sprintf(`{"fold":%q,"base":%q,"staged":"tmp-x"}`, digest.FromString("new"), base)
		write(t, read(t, root, logFile)+record(body), root, logFile)
		for _, staged := range []bool{true, false} { // the file may be lost, index.json tells
			killed := snapshot(t, root)
			if staged {
				write(t, "new", killed, "_repos/a,b/tmp-x")
			}
			s := open(t, killed, filesystem.Options{})
			wantLogged(t, s, images)
			shut(t, s)
			if exists(t, killed, logFile) || exists(t, killed, "_repos/a,b/tmp-x") {
				t.Fatal("the log or the file stays after a fold")
			}
			wantLogged(t, open(t, killed, filesystem.Options{}), images)
		}
	})
}

func TestLogKeepsWhatOneEditUndoesAndDoesAgain(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		r, images := logged(t, open(t, root, filesystem.Options{LogFrom: 1}))
		v1 := must(oci.ParseTag("v1"))(t)
		check(t, r.Update(t.Context(), func(e *storage.Edit) error {
			e.Untag(v1)
			e.Tag(v1, images[1].Digest)
			e.Delete(images[2].Digest)
			e.Put(images[2])
			e.Tag(must(oci.ParseTag("v2"))(t), images[2].Digest)
			return nil
		}))
		wantLogged(t, r.store(root), images)
	})
}

// store opens a copy of the root that r is in.
func (r repo) store(root string) storage.Store {
	r.t.Helper()
	return open(r.t, snapshot(r.t, root), filesystem.Options{})
}
