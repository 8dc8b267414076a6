//go:build real

// Package scrub_test damages what the real program keeps, on disk and in a bucket,
// has it scrubbed, and pushes again with real clients.
package scrub_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

const caddyfile = `{
	admin ADMIN
}
http://HOST {
	oci_registry {
		STORAGE
		anonymous all
		scrub {
			every 30d
			rate 1GiB
		}
	}
}
`

// serve starts a registry.
func serve(t *testing.T, storage string) *registry.Server {
	t.Helper()
	srv := registry.Config(t, strings.ReplaceAll(caddyfile, "STORAGE", storage))
	srv.Await("/v2/")
	return srv
}

// command runs one of the program's commands against a server's admin endpoint.
func command(t *testing.T, srv *registry.Server, args ...string) string {
	t.Helper()
	args = append(append([]string{"oci-registry"}, args...), "--address", strings.TrimPrefix(srv.Admin.URL, "http://"))
	return registry.Program(t).Run(args...)
}

// wantLines fails unless for each thing there's a line that has all the words.
func wantLines(t *testing.T, out string, want map[digest.Digest][]string) {
	t.Helper()
	for d, words := range want {
		found := 0
		for line := range strings.Lines(out) {
			if !strings.Contains(line, d.String()) {
				continue
			}
			found++
			for _, word := range words {
				if !strings.Contains(line, word) {
					t.Errorf("of %s is told\n%swant %q", d, line, word)
				}
			}
		}
		if found != 1 {
			t.Errorf("%s is told of %d times in\n%s", d, found, out)
		}
	}
}

func wantNoBlob(t *testing.T, r *remote.Repository, d digest.Digest) {
	t.Helper()
	if there, err := r.HasBlob(t.Context(), d); there || err != nil {
		t.Errorf("%s has %s, %v", r.Name, d, err)
	}
}

func wantNoManifest(t *testing.T, r *remote.Repository, refs ...string) {
	t.Helper()
	for _, ref := range refs {
		if _, err := r.Resolve(t.Context(), ref); remote.Status(err) != http.StatusNotFound {
			t.Errorf("HEAD of %s:%s: %v, want 404", r.Name, ref, err)
		}
	}
}

// flip changes a byte of a blob's file, and leaves no other trace.
func flip(t *testing.T, root, repository string, d digest.Digest) {
	t.Helper()
	name := filepath.Join(root, repository, "blobs", "sha256", d.Encoded())
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	for _, do := range []func() error{
		func() error { return os.Chmod(name, 0o600) },
		func() error { return os.WriteFile(name, content, 0o600) },
		func() error { return os.Chmod(name, fi.Mode()) },
		func() error { return os.Chtimes(name, fi.ModTime(), fi.ModTime()) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
}

// A flipped byte in a layer and in a manifest is found and answered 404, and healed
// by the next push; where there's another copy nobody has to push.
func TestOnDisk(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	srv := serve(t, "root "+root)
	skopeo, crane := tool.Find(t, "skopeo"), tool.Find(t, "crane")
	c, small := image.Random(1, 3, 200_000), image.Random(2, 1, 1_000)
	layout := c.WriteLayout(t, "v1")
	push := func() {
		t.Helper()
		skopeo.Run("copy", "--dest-tls-verify=false", "oci:"+string(layout)+":v1", "docker://"+srv.Ref("team/app", "v1"))
	}
	push()
	srv.Push(small, "other", "v1")
	srv.Push(small, "copy", "v1")
	layer, manifest, shared := c.Blobs[0].Digest, c.Digest, small.Blobs[0].Digest
	flip(t, root, "team/app", layer)
	flip(t, root, "copy", shared)
	wantLines(t, command(t, srv, "scrub"), map[digest.Digest][]string{
		layer:  {"blob", "team/app", "damaged", "quarantined", "v1"},
		shared: {"blob", "copy", "damaged", "repaired from other", "v1"},
	})
	wantNoBlob(t, srv.Repository("team/app"), layer)
	srv.Check("copy", "v1", small)
	push()
	srv.Check("team/app", "v1", c)

	flip(t, root, "team/app", manifest)
	wantLines(t, command(t, srv, "scrub"), map[digest.Digest][]string{manifest: {"manifest", "team/app", "damaged", "quarantined", "v1"}})
	wantNoManifest(t, srv.Repository("team/app"), "v1", manifest.String())
	crane.Run("push", "--insecure", string(layout), srv.Ref("team/app", "v1"))
	srv.Check("team/app", "v1", c)
	if out := command(t, srv, "scrub"); strings.Contains(out, "damaged") || strings.Contains(out, "missing") {
		t.Errorf("afterwards is found\n%s", out)
	}
}

// The last good names of a ruined repository are served by a new process as well,
// and put back by a command; a lost pool is made anew.
func TestRestore(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	srv := serve(t, "root "+root)
	c, d, refused := image.Random(1, 2, 100_000), image.Random(2, 1, 100_000), image.Random(3, 1, 1_000)
	srv.Push(c, "team/app", "v1")
	srv.Push(d, "other", "v1")
	srv.Stop()
	if err := os.Truncate(filepath.Join(root, "team", "app", "index.json"), 20); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "_pool")); err != nil {
		t.Fatal(err)
	}
	srv = serve(t, "root "+root)
	srv.Check("team/app", "v1", c)
	if err := srv.Repository("team/app").Push(t.Context(), refused, "v2"); remote.Status(err) != http.StatusServiceUnavailable {
		t.Fatalf("a push to it: %v, want 503", err)
	}
	srv.Push(c, "other", "v2")
	if out := command(t, srv, "scrub"); !strings.Contains(out, "index is unreadable") {
		t.Errorf("the scrub says nothing of it:\n%s", out)
	}
	command(t, srv, "restore", "team/app")
	srv.Push(d, "team/app", "v2")
	srv.Check("team/app", "v1", c)
	srv.Check("team/app", "v2", d)
	command(t, srv, "scrub")
	srv.Push(d, "new", "v1")
	layer := filepath.Join("blobs", "sha256", d.Blobs[0].Digest.Encoded())
	if !same(t, filepath.Join(root, "other", layer), filepath.Join(root, "new", layer)) {
		t.Error("what comes isn't shared with what was there before the pool was lost")
	}
}

// A copy of a root that shares nothing any more has all that was acknowledged, and
// what comes is shared again.
func TestCopy(t *testing.T) {
	t.Parallel()
	root, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	srv := serve(t, "root "+root)
	c, d := image.Random(1, 2, 100_000), image.Random(2, 1, 100_000)
	srv.Push(c, "team/app", "v1")
	srv.Push(c, "other", "v1")
	srv.Push(d, "team/app", "v2")
	tool.Find(t, "cp").Run("-r", root, copied) // while it serves
	srv.Stop()
	srv = serve(t, "root "+copied)
	for ref, want := range map[string]*image.Content{"v1": c, "v2": d} {
		srv.Check("team/app", ref, want)
	}
	srv.Check("other", "v1", c)
	if out := command(t, srv, "scrub"); strings.Contains(out, "damaged") || strings.Contains(out, "missing") {
		t.Errorf("in the copy is found\n%s", out)
	}
	srv.Push(d, "new", "v1")
	layer := filepath.Join("blobs", "sha256", d.Blobs[0].Digest.Encoded())
	if !same(t, filepath.Join(copied, "team", "app", layer), filepath.Join(copied, "new", layer)) {
		t.Error("what comes isn't shared with the copy")
	}
}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	first, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.Stat(b)
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(first, second)
}

// bucket is one that somebody else writes to.
type bucket struct {
	t      *testing.T
	client *s3.Client
}

// keys finds the objects of blobs, by what they hold.
func (b *bucket) keys() map[digest.Digest]string {
	b.t.Helper()
	list, err := b.client.ListObjectsV2(b.t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("registry"), Prefix: aws.String("data/")})
	if err != nil {
		b.t.Fatal(err)
	}
	keys := make(map[digest.Digest]string)
	for _, o := range list.Contents {
		keys[digest.FromBytes(b.get(*o.Key))] = *o.Key
	}
	return keys
}

func (b *bucket) get(key string) []byte {
	b.t.Helper()
	out, err := b.client.GetObject(b.t.Context(), &s3.GetObjectInput{Bucket: aws.String("registry"), Key: &key})
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Body.Close()
	content, err := io.ReadAll(out.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return content
}

func (b *bucket) put(key string, content []byte) {
	b.t.Helper()
	_, err := b.client.PutObject(b.t.Context(), &s3.PutObjectInput{Bucket: aws.String("registry"), Key: &key, Body: bytes.NewReader(content)})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bucket) remove(key string) {
	b.t.Helper()
	if _, err := b.client.DeleteObject(b.t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("registry"), Key: &key}); err != nil {
		b.t.Fatal(err)
	}
}

// Objects that somebody has changed or removed are found, and healed by the next
// push, to whichever process.
func TestOnS3(t *testing.T) {
	t.Parallel()
	endpoint := tool.MinIO(t)
	tool.Bucket(t, endpoint, "registry")
	b := &bucket{t, tool.S3(endpoint)}
	storage := `storage s3 {
			bucket     registry
			endpoint   ` + endpoint + `
			path_style
			access_key ` + tool.MinIOKey + `
			secret_key ` + tool.MinIOSecret + `
		}`
	one, two := serve(t, storage), serve(t, storage)
	c := image.Random(1, 4, 200_000)
	one.Push(c, "app", "v1")
	two.Push(c, "copy", "v1")
	copied := b.keys() // of each layer one of two
	bad, gone, repaired := c.Blobs[1].Digest, c.Blobs[2].Digest, c.Blobs[3].Digest
	for d, harm := range map[digest.Digest]func(key string){
		bad:      func(key string) { content := b.get(key); content[1000] ^= 1; b.put(key, content) },
		gone:     b.remove,
		repaired: b.remove,
	} {
		harm(copied[d])
		if key, more := b.keys()[d]; more && d != repaired {
			harm(key)
		}
	}
	out := command(t, one, "scrub")
	for _, d := range []digest.Digest{bad, gone} {
		for _, name := range []string{"app", "copy"} {
			wantLine(t, out, name, d.String(), "damaged", "quarantined", "v1")
			wantNoBlob(t, two.Repository(name), d)
		}
	}
	wantLine(t, out, repaired.String(), "damaged", "repaired from")
	two.Push(c, "app", "v1")
	one.Push(c, "copy", "v1")
	for _, srv := range []*registry.Server{one, two} {
		srv.Check("app", "v1", c)
		srv.Check("copy", "v1", c)
	}
	if out := command(t, two, "scrub"); strings.Contains(out, "damaged") || strings.Contains(out, "missing") {
		t.Errorf("afterwards is found\n%s", out)
	}
}

// wantLine fails unless one line has all the words.
func wantLine(t *testing.T, out string, words ...string) {
	t.Helper()
	for line := range strings.Lines(out) {
		has := true
		for _, word := range words {
			has = has && strings.Contains(line, word)
		}
		if has {
			return
		}
	}
	t.Errorf("no line has %q in\n%s", words, out)
}
