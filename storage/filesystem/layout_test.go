package filesystem_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestRepositoryIsAnImageLayout(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			s := open(t, root, opts)
			r := repository(t, s, "a/b")
			v1, v2 := image(t, "v1", r.pushBlob("x"), r.pushBlob(large("y"))), image(t, "v2")
			r.push(v1, "v1", "latest")
			r.push(v2, "latest")
			r.push(image(t, "by digest"))
			shut(t, s)

			if got := read(t, root, "a/b/oci-layout"); got != `{"imageLayoutVersion":"1.0.0"}` {
				t.Fatalf("oci-layout is %s", got)
			}
			wantIndex(t, root, map[string]digest.Digest{"v1": v1.Digest, "latest": v2.Digest})
			_, untagged := readIndex(t, root, "a/b")
			if !slices.Equal(untagged, []digest.Digest{image(t, "by digest").Digest}) {
				t.Fatalf("untagged are %v", untagged)
			}
			for _, name := range files(t, root, "a/b/blobs") {
				algorithm, encoded := filepath.Split(name)
				got := digest.Algorithm(filepath.Clean(algorithm)).FromString(read(t, root, "a/b/blobs", name))
				if got.Encoded() != encoded {
					t.Fatalf("blobs/%s holds %s", name, got)
				}
			}
			wantFiles(t, root, "a/b", "index.json", "oci-layout")
			wantFiles(t, root, "_repos/a,b", "history", "index.json")
			wantFiles(t, root, "_uploads")
		})
	}
}

// wantFiles fails unless these are the files in and below a folder, but for blobs.
func wantFiles(t *testing.T, root, dir string, want ...string) {
	t.Helper()
	got := slices.DeleteFunc(files(t, root, dir), func(name string) bool { return strings.HasPrefix(name, "blobs/") })
	if !slices.Equal(got, want) {
		t.Fatalf("files in %s are %v, want %v", dir, got, want)
	}
}

func TestIndexKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			kept, bare := image(t, "kept"), image(t, "bare")
			foreign := `{"schemaVersion":2,"x-top":{"a":[1,2]},"annotations":{"org.example":"top"},"manifests":[` +
				`{"mediaType":"` + kept.MediaType + `","digest":"` + kept.Digest.String() + `","size":` + strconv.Itoa(len(kept.Raw)) +
				`,"platform":{"os":"linux","architecture":"arm64"},"x-entry":true,` +
				`"annotations":{"org.opencontainers.image.ref.name":"kept","io.containerd.image.name":"x/kept"}},` +
				`{"mediaType":"` + bare.MediaType + `","digest":"` + bare.Digest.String() + `","size":` + strconv.Itoa(len(bare.Raw)) +
				`,"artifactType":"application/x.bare","urls":["http://example.com"]},` +
				`{"mediaType":"` + kept.MediaType + `","digest":"` + kept.Digest.String() + `","size":` + strconv.Itoa(len(kept.Raw)) +
				`,"annotations":{"org.opencontainers.image.ref.name":"example.com/not a tag:1"}}]}`
			layOut(t, root, "a", foreign, kept.Raw, bare.Raw)
			s := open(t, root, opts)
			r := repository(t, s, "a")
			r.push(image(t, "new"), "new")
			r.push(image(t, "newer"), "new")
			r.delete("new")
			r.push(image(t, "new"), "new")
			r.wantTags("kept", "new")
			shut(t, s)
			wantJSONKept(t, foreign, read(t, root, "a/index.json"))
		})
	}
}

// layOut makes an image layout without the package's help.
func layOut(t *testing.T, root, repository, index string, blobs ...[]byte) {
	t.Helper()
	dir := filepath.Join(root, repository)
	check(t, os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700))
	for _, b := range blobs {
		write(t, string(b), blobFile(root, repository, digest.FromBytes(b)))
	}
	write(t, `{"imageLayoutVersion": "1.0.0"}`, dir, "oci-layout")
	write(t, index, dir, "index.json")
}

// wantJSONKept fails unless all of the old index is in the new one.
func wantJSONKept(t *testing.T, before, after string) {
	t.Helper()
	var was, now map[string]any
	check(t, json.Unmarshal([]byte(before), &was), json.Unmarshal([]byte(after), &now))
	entries, _ := now["manifests"].([]any)
	have := make(map[string]bool)
	for _, e := range entries {
		have[string(must(json.Marshal(e))(t))] = true
	}
	old, _ := was["manifests"].([]any)
	for _, e := range old {
		if !have[string(must(json.Marshal(e))(t))] {
			t.Fatalf("the entry %v is lost: %s", e, after)
		}
	}
	for key, v := range was {
		if key != "manifests" && string(must(json.Marshal(v))(t)) != string(must(json.Marshal(now[key]))(t)) {
			t.Fatalf("%s was %v and is %v", key, v, now[key])
		}
	}
}

func TestListedManifestIsHealedByAPush(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			s := open(t, root, opts)
			r := repository(t, s, "a")
			subject := image(t, "subject")
			sig := manifest(t, subject.MediaType, fields{"subject": subject.Descriptor, "artifactType": "x/y"})
			r.push(subject, "v1")
			r.push(sig)
			shut(t, s)
			check(t, os.Remove(blobFile(root, "a", subject.Digest)), os.Remove(blobFile(root, "a", sig.Digest)))

			s = open(t, root, opts)
			r = repository(t, s, "a")
			r.push(subject, "v1")
			r.push(sig)
			r.want("v1", subject)
			r.want(sig.Digest.String(), sig)
			for referrer := range must(r.Referrers(t.Context(), subject.Digest, ""))(t) {
				if referrer.Digest == sig.Digest && referrer.ArtifactType == "x/y" {
					return
				}
			}
			t.Fatal("the referrer isn't found")
		})
	}
}
