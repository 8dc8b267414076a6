//go:build real

// Package foreign shows that the real program and other tools understand each
// other's folders.
package foreign

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
	"github.com/caddy-oci/oci-registry/test/tree"
)

// expectation is what a folder's expect.json says of one manifest.
type expectation struct {
	Repository string
	Tag        string        // empty: it's found by digest
	Digest     digest.Digest // empty: the repository has nothing that can be pulled
	Platforms  map[string]digest.Digest
	Referrers  map[digest.Digest][]digest.Digest
}

// TestRead reads what other tools wrote, with clients, and shows that the
// server has left it as it was.
func TestRead(t *testing.T) {
	t.Parallel()
	for _, writer := range []string{"regctl", "skopeo", "zot"} {
		t.Run(writer, func(t *testing.T) {
			t.Parallel()
			from := filepath.Join(tool.Root(t), "test/testdata/foreign", writer)
			root := filepath.Join(t.TempDir(), "root")
			tree.Copy(t, root, from, "README.md", "expect.json")
			before := layouts(t, root)
			r := newReader(t, root)
			all := expected(t, from)
			for _, e := range all {
				r.check(t, e)
			}
			r.checkTags(t, all)
			r.srv.Stop()
			for _, line := range tree.Diff(before, layouts(t, root)) {
				t.Error(line)
			}
		})
	}
}

// layouts takes a picture of a root without what the server keeps beside the
// layouts.
func layouts(t *testing.T, root string) tree.Tree {
	t.Helper()
	all := tree.Read(t, root)
	for path := range all {
		if path == "." || strings.HasPrefix(path, "_") {
			delete(all, path)
		}
	}
	return all
}

func expected(t *testing.T, dir string) []expectation {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "expect.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []expectation
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// reader reads one root with every client.
type reader struct {
	srv                   *registry.Server
	skopeo, crane, regctl *tool.Tool
}

func newReader(t *testing.T, root string) reader {
	srv := registry.Serve(t, root)
	return reader{
		srv:    srv,
		skopeo: tool.Find(t, "skopeo"),
		crane:  tool.Find(t, "crane"),
		regctl: tool.Find(t, "regctl", "--host", "reg="+srv.Host+",tls=disabled"),
	}
}

func (r *reader) check(t *testing.T, e expectation) {
	t.Helper()
	if e.Digest == "" {
		return
	}
	refs := map[string]digest.Digest{e.Digest.String(): e.Digest}
	if e.Tag != "" {
		refs[e.Tag] = e.Digest
	}
	for _, d := range e.Platforms {
		refs[d.String()] = d
	}
	for subject, referrers := range e.Referrers {
		r.checkReferrers(t, e.Repository, subject, referrers)
		for _, d := range referrers {
			refs[d.String()] = d
		}
	}
	for ref, want := range refs {
		r.checkManifest(t, e.Repository, ref, want)
	}
	if e.Digest.Algorithm() != digest.SHA256 {
		return
	}
	for platform, want := range e.Platforms {
		got := strings.TrimSpace(r.crane.Run("digest", "--platform", platform, r.srv.Ref(e.Repository, e.Digest.String())))
		if got != want.String() {
			t.Errorf("%s of %s is %s, want %s", platform, e.Repository, got, want)
		}
	}
}

// checkManifest has every client read a manifest, and what it names as well.
func (r *reader) checkManifest(t *testing.T, repository, ref string, want digest.Digest) {
	t.Helper()
	name := r.srv.Ref(repository, ref)
	desc, err := r.srv.Repository(repository).Verify(t.Context(), ref)
	if err != nil {
		t.Error(err)
	}
	if desc.Digest != want {
		t.Errorf("%s is %s, want %s", name, desc.Digest, want)
	}
	raw := map[string]string{
		"skopeo": r.skopeo.Run("inspect", "--tls-verify=false", "--raw", "docker://"+name),
		"regctl": r.regctl.Run("manifest", "get", "--format", "raw-body", name),
	}
	if want.Algorithm() == digest.SHA256 { // crane knows no other one
		raw["crane"] = r.crane.Run("manifest", name)
	}
	for client, body := range raw {
		if got := want.Algorithm().FromString(body); got != want {
			t.Errorf("%s reads %s of %s, want %s", client, got, name, want)
		}
	}
}

func (r *reader) checkReferrers(t *testing.T, repository string, subject digest.Digest, want []digest.Digest) {
	t.Helper()
	want = slices.Sorted(slices.Values(want))
	got, err := r.srv.Repository(repository).Referrers(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("referrers of %s are %s, want %s", r.srv.Ref(repository, subject.String()), got, want)
	}
	var listed []digest.Digest
	for _, line := range r.regctl.Lines("artifact", "list", "--format", "{{range .Descriptors}}{{println .Digest}}{{end}}", r.srv.Ref(repository, subject.String())) {
		listed = append(listed, digest.Digest(line))
	}
	slices.Sort(listed)
	if !slices.Equal(listed, want) {
		t.Errorf("regctl lists the referrers %s of %s, want %s", listed, r.srv.Ref(repository, subject.String()), want)
	}
}

// checkTags compares the catalog, and all tags of each repository.
func (r *reader) checkTags(t *testing.T, all []expectation) {
	t.Helper()
	want := make(map[string][]string)
	for _, e := range all {
		tags := want[e.Repository]
		if e.Tag != "" {
			tags = append(tags, e.Tag)
		}
		want[e.Repository] = tags
	}
	catalog := r.crane.Lines("catalog", r.srv.Host)
	for repository, tags := range want {
		if !slices.Contains(catalog, repository) && len(tags) > 0 {
			t.Errorf("the catalog lacks %s: %q", repository, catalog)
		}
		slices.Sort(tags)
		if len(tags) == 0 {
			continue
		}
		if got := r.crane.Lines("ls", r.srv.Host+"/"+repository); !slices.Equal(got, tags) {
			t.Errorf("crane lists the tags %q of %s, want %q", got, repository, tags)
		}
		if got := r.regctl.Lines("tag", "ls", r.srv.Host+"/"+repository); !slices.Equal(got, tags) {
			t.Errorf("regctl lists the tags %q of %s, want %q", got, repository, tags)
		}
	}
	for _, repository := range catalog {
		if _, ok := want[repository]; !ok {
			t.Errorf("the catalog has %s, which nobody wrote", repository)
		}
	}
}
