package filesystem_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// Symbolic links that lead out of the tree, in every place where the store
// looks: nothing behind one is read to a client, written, or removed.
func TestLinksThatLeaveTheTree(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"a", "a/blobs", "a/blobs/sha256", "a/index.json", "a/oci-layout", "_pool", "_pool/_", "_pool/_/sha256", "_repos", "_repos/a",
		"_repos/a/log", "_repos/a/history", "_repos/a/index.json", "_repos/a/pulls", "_uploads", "_uploads/SESSION", "_uploads/SESSION/data",
		"_uploads/SESSION/state", "_reserve", "_unsynced",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, outside := t.TempDir(), t.TempDir()
			s := open(t, root, watchful)
			r := repository(t, s, "a")
			secret := image(t, "secret", r.pushBlob(large("secret layer")))
			r.push(secret, "secret")
			recordPull(r, secret.Digest)
			u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
			must(u.Append(t.Context(), 0, strings.NewReader("secret")))(t)
			check(t, u.Close())
			shut(t, s)
			write(t, record(`{"changes":[{"untag":"nothing"}]}`), root, "_repos/a/log")

			at := filepath.Join(root, strings.Replace(name, "SESSION", u.ID(), 1))
			moved := filepath.Join(outside, "moved")
			if err := os.Rename(at, moved); err != nil {
				write(t, "secret", moved)
			}
			check(t, os.Symlink(moved, at))
			s = open(t, root, watchful)
			before := contentsOf(t, outside)
			if strings.HasPrefix("a/blobs/sha256", name) {
				if err := readBlob(t.Context(), repository(t, s, "a"), secret.Digest); err == nil {
					t.Fatal("what is outside was read")
				}
			}
			_ = s.Close() // what it tidies up may be elsewhere
			useEverything(t, root, u.ID())
			if after := contentsOf(t, outside); !maps.Equal(before, after) {
				t.Fatalf("outside there was %d files, and now there are %d: %v", len(before), len(after), changedIn(before, after))
			}
		})
	}
}

// useEverything does all that a store can do, of which much may fail.
func useEverything(t *testing.T, root, session string) {
	t.Helper()
	s, err := filesystem.Open(root, watchful)
	if err != nil {
		t.Logf("open: %v", err)
		return
	}
	t.Cleanup(func() { _ = s.Close() }) // what it can't write down is elsewhere
	ctx, r := t.Context(), repository(t, s, "a")
	m := image(t, "m")
	_, _ = pushBlob(ctx, r, large("secret layer")) // would be linked to what is in the pool
	_, _ = pushBlob(ctx, r, large("other layer"))
	_ = put(ctx, r, m, "v1", "secret")
	_ = put(ctx, repository(t, s, "b"), m, "v1")
	_, _ = repository(t, s, "b").MountBlob(ctx, digestOf(large("secret layer")), r.Name())
	recordPull(r, m.Digest)
	if u, err := r.ResumeUpload(ctx, session); err == nil {
		_, _ = u.Append(ctx, -1, strings.NewReader("more"))
		_, _ = u.Commit(ctx, digestOf("secretmore"))
		_ = u.Cancel(ctx)
		_ = u.Close()
	}
	_ = storage.DeleteManifest(ctx, r, oci.TagRef(tagOf("v1")), "")
	_ = storage.DeleteManifest(ctx, r, oci.DigestRef(m.Digest), "")
	_ = storage.DeleteBlob(ctx, r, digestOf(large("other layer")), "")
	for _, err := range s.Repositories(ctx, oci.Name{}) {
		if err != nil {
			t.Logf("list: %v", err)
		}
	}
	_ = s.Close()
}

// contentsOf are the files below a folder, with what is in them and who may write it.
func contentsOf(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, name := range files(t, folder) {
		found[name] = stat(t, filepath.Join(folder, name)).Mode().String() + " " + read(t, folder, name)
	}
	return found
}

// changedIn are the names of what differs.
func changedIn(before, after map[string]string) (names []string) {
	for name := range before {
		if before[name] != after[name] {
			names = append(names, name)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}
