package filesystem_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

func stat(t testing.TB, name string) fs.FileInfo {
	t.Helper()
	return must(os.Stat(name))(t)
}

// same reports whether all the names are one file.
func same(t testing.TB, names ...string) bool {
	t.Helper()
	first := stat(t, names[0])
	return !slices.ContainsFunc(names[1:], func(name string) bool { return !os.SameFile(first, stat(t, name)) })
}

func TestPoolSharesBlobs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	content := large("shared")
	d := repository(t, s, "a").pushBlob(content)
	repository(t, s, "b").pushBlob(content)
	must(repository(t, s, "c").MountBlob(t.Context(), d, repository(t, s, "a").Name()))(t)
	if !same(t, blobFile(root, "a", d), blobFile(root, "b", d), blobFile(root, "c", d), poolFile(root, d)) {
		t.Fatal("the blob isn't shared")
	}
	if mode := stat(t, poolFile(root, d)).Mode(); mode != 0o444 {
		t.Fatalf("the shared file has mode %v", mode)
	}
	repository(t, s, "b").wantBlob(content)
}

func TestPoolSharesNothingThatOtherToolsRewrite(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	small := strings.Repeat("x", 4095)
	m := manifest(t, "application/vnd.oci.image.manifest.v1+json", fields{"annotations": fields{"a": large("long")}})
	for _, name := range []string{"a", "b"} {
		r := repository(t, s, name)
		r.pushBlob(small)
		r.push(m, "v1")
	}
	// What is a manifest in one repository may be mounted into another as a blob.
	r := repository(t, s, "c")
	must(r.MountBlob(t.Context(), m.Digest, repository(t, s, "a").Name()))(t)
	d := digest.FromString(small)
	if same(t, blobFile(root, "a", d), blobFile(root, "b", d)) {
		t.Fatal("a small blob is shared")
	}
	if same(t, blobFile(root, "a", m.Digest), blobFile(root, "b", m.Digest)) ||
		same(t, blobFile(root, "a", m.Digest), blobFile(root, "c", m.Digest)) {
		t.Fatal("a manifest is shared")
	}
}

func TestPoolGivesUpWhatNobodyHas(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	content := large("dropped")
	a, b := repository(t, s, "a"), repository(t, s, "b")
	d := a.pushBlob(content)
	b.pushBlob(content)
	a.drop(d)
	a.wantNoBlob(d)
	b.wantBlob(content)
	if !exists(t, poolFile(root, d)) {
		t.Fatal("the pool has dropped what a repository has")
	}
	b.drop(d)
	if names := files(t, root, "_pool"); len(names) > 0 {
		t.Fatalf("the pool has %v", names)
	}
	a.pushBlob(content)
	a.wantBlob(content)
}

func TestPoolThatCannotLinkIsDoneWithout(t *testing.T) {
	t.Parallel()
	for _, errno := range []error{syscall.EMLINK, syscall.EXDEV, syscall.EPERM, syscall.EIO} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			s := openFaulty(t, root, filesystem.Options{}, func(step vfs.Step) error {
				if step.Op == "link" {
					return errno
				}
				return nil
			})
			content := large("alone")
			d := repository(t, s, "a").pushBlob(content)
			repository(t, s, "b").pushBlob(content)
			must(repository(t, s, "c").MountBlob(t.Context(), d, repository(t, s, "a").Name()))(t)
			for _, name := range []string{"a", "b", "c"} {
				repository(t, s, name).wantBlob(content)
			}
			if same(t, blobFile(root, "a", d), blobFile(root, "b", d)) {
				t.Fatal("shared by other means")
			}
		})
	}
}

// openFaulty opens a store in a tree where fail may make steps fail.
func openFaulty(t testing.TB, root string, opts filesystem.Options, fail func(vfs.Step) error) *filesystem.Store {
	t.Helper()
	s := must(filesystem.OpenFS(vfs.NewFaulty(must(vfs.Dir(root))(t), fail), opts))(t)
	t.Cleanup(func() { shut(t, s) })
	return s
}

func TestPoolOfAFullInodeBeginsANewOne(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	content := large("full")
	d := digest.FromString(content)
	var full atomic.Bool // whether the blob's first file has all the links it can have
	s := openFaulty(t, root, filesystem.Options{}, func(step vfs.Step) error {
		if full.Load() && step.Op == "link" && strings.HasPrefix(step.From, "_pool") {
			return syscall.EMLINK
		}
		return nil
	})
	repository(t, s, "a").pushBlob(content)
	full.Store(true)
	repository(t, s, "b").pushBlob(content)
	full.Store(false)
	repository(t, s, "c").pushBlob(content)
	if same(t, blobFile(root, "a", d), blobFile(root, "b", d)) || !same(t, blobFile(root, "b", d), blobFile(root, "c", d)) {
		t.Fatal("who comes after a full inode doesn't share with the one before")
	}
}

func TestPoolFileOfAnotherSizeIsNotUsed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	content := large("damaged")
	d := digest.FromString(content)
	check(t, os.MkdirAll(filepath.Dir(poolFile(root, d)), 0o700))
	write(t, content[:5000], poolFile(root, d))
	a, b := repository(t, s, "a"), repository(t, s, "b")
	a.pushBlob(content)
	a.wantBlob(content)
	b.pushBlob(content)
	b.wantBlob(content)
	if !same(t, blobFile(root, "a", d), blobFile(root, "b", d), poolFile(root, d)) {
		t.Fatal("the damaged file wasn't replaced")
	}
}

func TestTornBlobIsHealedByAPush(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	content := large("torn")
	a, b := repository(t, s, "a"), repository(t, s, "b")
	d := a.pushBlob(content) // the pool has it, so the push below links
	check(t, os.MkdirAll(filepath.Join(root, "b/blobs/sha256"), 0o700))
	write(t, content[:100], blobFile(root, "b", d))
	b.pushBlob(content)
	b.wantBlob(content)
	check(t, os.MkdirAll(filepath.Join(root, "c/blobs/sha256"), 0o700))
	write(t, content[:100], blobFile(root, "c", d))
	c := repository(t, s, "c")
	must(c.MountBlob(t.Context(), d, a.Name()))(t)
	c.wantBlob(content)
}

func TestBlobOfAnotherFileSystemIsCopied(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openFaulty(t, root, filesystem.Options{}, func(step vfs.Step) error {
		if step.From != "" && strings.HasPrefix(step.From, "_") != strings.HasPrefix(step.Name, "_") &&
			!strings.HasPrefix(step.From, "_repos") {
			return syscall.EXDEV
		}
		return nil
	})
	r := repository(t, s, "a")
	content := large("far away")
	d := r.pushBlob(content)
	r.wantBlob(content)
	if got := files(t, root, "a"); !slices.Equal(got, []string{"blobs/sha256/" + d.Encoded()}) {
		t.Fatalf("files are %v", got)
	}
	if got := files(t, root, "_uploads"); len(got) > 0 {
		t.Fatalf("the session stays: %v", got)
	}
}
