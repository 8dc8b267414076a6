package storagetest

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Damage flips a byte of what a repository keeps of a blob, wherever that is.
type Damage func(t testing.TB, in oci.Name, d digest.Digest)

// Quarantine holds a kind of store whose repositories are storage.Quarantiner to
// what that says, one subtest a sentence, for blobs of several sizes.
func Quarantine(t *testing.T, open func(t *testing.T) (storage.Store, Damage)) {
	t.Helper()
	for size, content := range map[string]string{"small": "x", "middle": strings.Repeat("x", 20_000), "large": strings.Repeat("x", 200_000)} {
		for sentence, check := range quarantineChecks() {
			t.Run(size+": "+sentence, func(t *testing.T) {
				t.Parallel()
				s, damage := open(t)
				closeAfter(t, s)
				check(&infirmary{t, s, damage, content})
			})
		}
	}
}

// infirmary is a store in which bytes rot.
type infirmary struct {
	t       testing.TB
	s       storage.Store
	damage  Damage
	content string
}

func quarantineChecks() map[string]func(*infirmary) {
	return map[string]func(*infirmary){
		"what is right stays":                                   soundStays,
		"what isn't there can't be taken out":                   nothingToTake,
		"a bad blob is there no more":                           badBlobGoes,
		"a bad manifest is there no more, and has its tags":     badManifestGoes,
		"a bad child of an image index is there no more":        badChildGoes,
		"a bad blob comes again by a Commit":                    comesByCommit,
		"a bad blob comes again by a MountBlob":                 comesByMount,
		"a bad manifest comes again by an Update":               comesByUpdate,
		"what comes again is quarantined again if it's bad":     badTwice,
		"bad bytes are bad in each repository that shares them": sharedBad,
		"bad bytes aren't mounted from elsewhere":               notMounted,
		"bad bytes aren't found by a Commit elsewhere":          notCommitted,
		"Contents says which content is the same bytes":         sameObject,
		"who vouches changes nothing that's seen":               vouching,
		"what was taken out can't be required":                  notRequired,
	}
}

// repository returns one that has the blob, and a manifest that needs it.
func (w *infirmary) repository() (r repo, d digest.Digest, m oci.Manifest) {
	w.t.Helper()
	r = repository(w.t, w.s, "a")
	d = r.pushBlob(w.content)
	m = image(w.t, "of "+w.content, d)
	r.push(m, "v1")
	return r, d, m
}

func (r repo) quarantiner() storage.Quarantiner {
	r.t.Helper()
	q, ok := storage.As[storage.Quarantiner](r.Repository)
	if !ok {
		r.t.Fatalf("a %T is no storage.Quarantiner", r.Repository)
	}
	return q
}

func (r repo) quarantine(d digest.Digest, want storage.Outcome) {
	r.t.Helper()
	if got := must(r.quarantiner().Quarantine(r.t.Context(), d))(r.t); got != want {
		r.t.Fatalf("the blob is %s, want %s", got, want)
	}
}

func (r repo) wantQuarantined(want ...digest.Digest) {
	r.t.Helper()
	var got []digest.Digest
	for d, err := range r.quarantiner().Quarantined(r.t.Context()) {
		if err != nil {
			r.t.Fatalf("quarantined: %v", err)
		}
		got = append(got, d)
	}
	wantSlice(r.t, "quarantined", got, want)
}

// rot damages a blob and has it taken out.
func (w *infirmary) rot(r repo, d digest.Digest) {
	w.t.Helper()
	w.damage(w.t, r.Name(), d)
	r.quarantine(d, storage.Taken)
	r.wantNoBlob(d)
	r.wantContent(d, false)
	r.wantQuarantined(d)
}

func soundStays(w *infirmary) {
	r, d, m := w.repository()
	r.quarantine(d, storage.Sound)
	r.quarantine(m.Digest, storage.Sound)
	r.wantBlob(d, w.content)
	r.wantManifest(m.Digest, "v1", m.Digest.String())
	r.wantQuarantined()
}

func nothingToTake(w *infirmary) {
	r, _, _ := w.repository()
	_, err := r.quarantiner().Quarantine(w.t.Context(), digest.FromString("nothing"))
	wantCode(w.t, err, oci.BlobUnknown)
}

func badBlobGoes(w *infirmary) {
	r, d, m := w.repository()
	w.rot(r, d)
	_, err := r.quarantiner().Peek(w.t.Context(), d)
	wantCode(w.t, err, oci.BlobUnknown)
	_, err = r.quarantiner().Quarantine(w.t.Context(), d)
	wantCode(w.t, err, oci.BlobUnknown)
	r.wantManifest(m.Digest, "v1", m.Digest.String())
}

func (r repo) wantLost(m oci.Manifest, refs ...string) {
	r.t.Helper()
	for _, s := range refs {
		_, err := r.Resolve(r.t.Context(), ref(r.t, s))
		wantCode(r.t, err, oci.ManifestUnknown)
		_, err = storage.GetManifest(r.t.Context(), r, ref(r.t, s))
		wantCode(r.t, err, oci.ManifestUnknown)
		desc, err := r.index().Resolve(ref(r.t, s))
		if err != nil || desc.Digest != m.Digest {
			r.t.Fatalf("the index says that %s is %s, %v; want %s", s, desc.Digest, err, m.Digest)
		}
	}
}

func badManifestGoes(w *infirmary) {
	r, d, m := w.repository()
	w.rot(r, m.Digest)
	r.wantLost(m, "v1", m.Digest.String())
	r.wantTags("v1")
	r.wantBlob(d, w.content)
	r.update(func(e *storage.Edit) { e.Delete(m.Digest) }) // as any other
	r.wantNoManifest("v1", m.Digest.String())
}

func badChildGoes(w *infirmary) {
	r, _, m := w.repository()
	idx := imageIndex(w.t, m)
	r.push(idx, "all")
	w.rot(r, m.Digest)
	r.wantLost(m, "v1", m.Digest.String())
	r.wantManifest(idx.Digest, "all", idx.Digest.String())
}

func comesByCommit(w *infirmary) {
	r, d, _ := w.repository()
	w.rot(r, d)
	r.pushBlob(w.content)
	r.wantBlob(d, w.content)
	r.quarantine(d, storage.Sound)
	r.wantQuarantined()
	r.update(func(e *storage.Edit) { e.Require(d) })
}

func comesByMount(w *infirmary) {
	r, d, _ := w.repository()
	w.damage(w.t, r.Name(), d)
	r.quarantine(d, storage.Taken)
	other := repository(w.t, w.s, "b")
	other.pushBlob(w.content)
	must(r.MountBlob(w.t.Context(), d, other.Name()))(w.t)
	r.wantBlob(d, w.content)
	r.quarantine(d, storage.Sound)
	r.wantQuarantined()
}

func comesByUpdate(w *infirmary) {
	r, _, m := w.repository()
	w.rot(r, m.Digest)
	r.push(m)
	r.wantManifest(m.Digest, "v1", m.Digest.String())
	r.wantBlob(m.Digest, string(m.Raw))
	r.quarantine(m.Digest, storage.Sound)
	r.wantQuarantined()
}

func badTwice(w *infirmary) {
	r, d, _ := w.repository()
	for range 3 {
		w.rot(r, d)
		r.pushBlob(w.content)
		r.wantBlob(d, w.content)
	}
}

// mounted is another repository, which has the blob from the first one.
func (w *infirmary) mounted(d digest.Digest) repo {
	w.t.Helper()
	r := repository(w.t, w.s, "b")
	must(r.MountBlob(w.t.Context(), d, name(w.t, "a")))(w.t)
	r.wantBlob(d, w.content)
	return r
}

// shares reports whether two repositories have the same bytes of a blob.
func shares(a, b repo, d digest.Digest) bool {
	a.t.Helper()
	object := a.contents()[d].Object
	return object != "" && object == b.contents()[d].Object
}

func sharedBad(w *infirmary) {
	a, d, _ := w.repository()
	b := w.mounted(d)
	shared := shares(a, b, d)
	w.rot(a, d)
	if !shared {
		b.quarantine(d, storage.Sound)
		b.wantBlob(d, w.content)
		return
	}
	b.wantContent(d, true)
	b.quarantine(d, storage.Taken)
	b.wantNoBlob(d)
	a.pushBlob(w.content)
	must(b.MountBlob(w.t.Context(), d, a.Name()))(w.t)
	b.wantBlob(d, w.content)
}

func notMounted(w *infirmary) {
	a, d, _ := w.repository()
	b := w.mounted(d)
	if !shares(a, b, d) {
		return // then b's is right
	}
	w.rot(a, d)
	_, err := a.MountBlob(w.t.Context(), d, b.Name())
	wantCode(w.t, err, oci.BlobUnknown)
	_, err = repository(w.t, w.s, "c").MountBlob(w.t.Context(), d, b.Name())
	wantCode(w.t, err, oci.BlobUnknown)
	a.wantNoBlob(d)
}

func notCommitted(w *infirmary) {
	a, d, _ := w.repository()
	w.mounted(d)
	w.rot(a, d)
	c := repository(w.t, w.s, "c")
	c.pushBlob(w.content)
	c.wantBlob(d, w.content)
	a.pushBlob(w.content)
	a.wantBlob(d, w.content)
	c.quarantine(d, storage.Sound)
	a.quarantine(d, storage.Sound)
}

func sameObject(w *infirmary) {
	a, d, m := w.repository()
	all := a.contents()
	if o := all[d].Object; o != "" && o == all[m.Digest].Object {
		w.t.Fatalf("a blob and a manifest are both %q", o)
	}
	if b := w.mounted(d); len(w.content) > 100_000 && !shares(a, b, d) {
		w.t.Fatalf("what was mounted is %q, and it was %q", b.contents()[d].Object, all[d].Object)
	}
}

func vouching(w *infirmary) {
	r, d, m := w.repository()
	other := w.mounted(d)
	for _, c := range r.contents() {
		if err := r.quarantiner().Vouch(w.t.Context(), c); err != nil {
			w.t.Fatal(err)
		}
	}
	r.wantBlob(d, w.content)
	r.wantManifest(m.Digest, "v1")
	other.wantBlob(d, w.content)
	if err := r.quarantiner().Vouch(w.t.Context(), storage.Content{Digest: digest.FromString("gone"), Size: 1 << 20, Object: "1.2"}); err != nil {
		w.t.Fatal(err)
	}
}

func notRequired(w *infirmary) {
	r, d, _ := w.repository()
	w.rot(r, d)
	err := r.Update(w.t.Context(), func(e *storage.Edit) error { e.Require(d); return nil })
	wantCode(w.t, err, oci.ManifestBlobUnknown)
}
