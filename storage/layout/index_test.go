package layout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func image(t *testing.T, n int, subject digest.Digest) oci.Manifest {
	t.Helper()
	extra := ""
	if subject != "" {
		extra = fmt.Sprintf(`,"subject":{"mediaType":"x","digest":%q,"size":1}`, subject)
	}
	return parse(t, oci.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"layers":[],"annotations":{"n":"%d"}%s}`, n, extra))
}

func index(t *testing.T, children ...oci.Manifest) oci.Manifest {
	t.Helper()
	list := ""
	for i, c := range children {
		if i > 0 {
			list += ","
		}
		list += fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, c.MediaType, c.Digest, c.Size)
	}
	return parse(t, oci.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[`+list+`]}`)
}

func parse(t *testing.T, mediaType, body string) oci.Manifest {
	t.Helper()
	m, err := oci.ParseManifest(mediaType, []byte(body), digest.Canonical)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// referring is m as a list of referrers has it.
func referring(t *testing.T, m oci.Manifest) storage.Referrer {
	t.Helper()
	raw, err := json.Marshal(m.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	return storage.Referrer{Digest: m.Digest, ArtifactType: m.ArtifactType, JSON: string(raw)}
}

func tag(t *testing.T, s string) oci.Tag {
	t.Helper()
	v, err := oci.ParseTag(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func put(m oci.Manifest) storage.Change {
	return storage.Change{Kind: storage.PutChange, Manifest: m, Digest: m.Digest}
}

func setTag(t oci.Tag, d digest.Digest) storage.Change {
	return storage.Change{Kind: storage.TagChange, Tag: t, Digest: d}
}

func del(d digest.Digest) storage.Change {
	return storage.Change{Kind: storage.DeleteChange, Digest: d}
}

func apply(i *Index, changes ...storage.Change) *Index {
	next, _ := i.Apply(changes)
	return next
}

func has(i *Index, d digest.Digest) bool {
	_, err := i.Resolve(oci.DigestRef(d))
	return err == nil
}

func TestRetagKeepsTheOldManifestAndSaysSo(t *testing.T) {
	t.Parallel()
	a, b, v := image(t, 1, ""), image(t, 2, ""), tag(t, "v")
	i := apply(New(), put(a), setTag(v, a.Digest))
	next, events := i.Apply([]storage.Change{put(b), setTag(v, b.Digest)})
	if !has(next, a.Digest) || next.Tagged(a.Digest) || !next.Tagged(b.Digest) {
		t.Fatal("the old manifest is gone, or the wrong one is tagged")
	}
	want := []Event{{Now: b.Digest}, {Tag: v, Was: a.Digest, Now: b.Digest}}
	if !slices.Equal(events, want) {
		t.Fatalf("events = %v, want %v", events, want)
	}
	if got, err := i.Resolve(oci.TagRef(v)); err != nil || got.Digest != a.Digest {
		t.Fatalf("the index before has moved: %v %v", got.Digest, err)
	}
	if _, events = next.Apply([]storage.Change{put(b), setTag(v, b.Digest)}); len(events) > 0 {
		t.Fatalf("the same again: events = %v", events)
	}
}

func TestEncodeDecode(t *testing.T) {
	t.Parallel()
	a, b := image(t, 1, ""), image(t, 2, "")
	i := apply(New(), put(a), put(b), setTag(tag(t, "v2"), a.Digest), setTag(tag(t, "v1"), a.Digest))
	back, err := Decode(i.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(back.Bytes()), string(i.Bytes()); got != want {
		t.Fatalf("round trip:\n got %s\nwant %s", got, want)
	}
	if !has(back, b.Digest) || !back.Tagged(a.Digest) || back.Tagged(b.Digest) || back.Len() != 2 {
		t.Fatal("decoded index means something else")
	}
}

// A layout of other tools: unknown fields, a platform, a name that isn't a tag,
// one manifest under two names, and two descriptors with one name.
func TestDecodeKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	d1, d2 := digest.FromString("1"), digest.FromString("2")
	in := `{"annotations":{"x":"y"},"schemaVersion":2,"vendor":[1, 2],"manifests":[` +
		`{"mediaType":"a","digest":"` + d1.String() + `","size":1,"annotations":{"org.opencontainers.image.ref.name":"docker.io/x:y"},"extra":true},` +
		`{"mediaType":"a","digest":"` + d2.String() + `","size":1,"annotations":{"org.opencontainers.image.ref.name":"v1"}},` +
		`{"mediaType":"a","digest":"` + d1.String() + `","size":1,"platform":{"os":"linux","architecture":"arm64"},"annotations":{"org.opencontainers.image.ref.name":"v1"}},` +
		`{"mediaType":"a","digest":"` + d2.String() + `","size":1,"artifactType":"q"}]}`
	i, err := Decode([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := i.Resolve(oci.TagRef(tag(t, "v1"))); err != nil || got.Digest != d1 {
		t.Fatalf("v1 = %v, %v; the last descriptor counts", got.Digest, err)
	}
	for range i.Tags(tag(t, "v1")) {
		t.Fatal("a name that isn't a tag is listed as one")
	}
	want := `{"annotations":{"x":"y"},"schemaVersion":2,"vendor":[1, 2],"manifests":[` +
		`{"mediaType":"a","digest":"` + d1.String() + `","size":1,"annotations":{"org.opencontainers.image.ref.name":"docker.io/x:y"},"extra":true},` +
		`{"mediaType":"a","digest":"` + d1.String() + `","size":1,"platform":{"os":"linux","architecture":"arm64"},"annotations":{"org.opencontainers.image.ref.name":"v1"}},` +
		`{"mediaType":"a","digest":"` + d2.String() + `","size":1,"artifactType":"q"}]}`
	if got := string(i.Bytes()); got != want {
		t.Fatalf("encoded\n got %s\nwant %s", got, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		``, `{`, `null`, `[]`, `{}`, `{"manifests":null,"manifests":1}`, `{"manifests":[{"digest":"sha256:short"}]}`,
		`{"manifests":[{"digest":"../../etc/passwd"}]}`,
	} {
		if _, err := Decode([]byte(in)); err == nil {
			t.Errorf("%q was taken for an index.json", in)
		}
	}
}

// What skopeo --all and regctl write: only the top is listed.
func TestLearnFindsWhatOnlyAnIndexLists(t *testing.T) {
	t.Parallel()
	leaf := image(t, 1, "")
	signature := image(t, 2, leaf.Digest)
	inner := index(t, leaf, signature)
	top := index(t, inner, image(t, 3, ""))
	content := map[digest.Digest]oci.Manifest{leaf.Digest: leaf, signature.Digest: signature, inner.Digest: inner, top.Digest: top}

	listed := apply(New(), put(top), setTag(tag(t, "v"), top.Digest))
	i, err := Decode(listed.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	i = learnAll(i, content)
	for d := range content {
		if !has(i, d) {
			t.Errorf("%s isn't found", d)
		}
	}
	if has(i, image(t, 3, "").Digest) {
		t.Error("a child whose bytes aren't there is found")
	}
	if got := len(slices.Collect(i.Manifests())); got != len(content) {
		t.Errorf("%d manifests, want %d", got, len(content))
	}
	if got := slices.Collect(i.Referrers(leaf.Digest, "")); !slices.Equal(got, []storage.Referrer{referring(t, signature)}) {
		t.Errorf("referrers = %v", got)
	}
	if got := slices.Collect(i.Parents(leaf.Digest)); !slices.Equal(got, []digest.Digest{inner.Digest}) {
		t.Errorf("parents = %v", got)
	}
	i = apply(i, del(top.Digest))
	for d := range content {
		if has(i, d) {
			t.Errorf("%s outlives the index that listed it", d)
		}
	}
	if len(slices.Collect(i.Referrers(leaf.Digest, ""))) != 0 || len(slices.Collect(i.Parents(leaf.Digest))) != 0 {
		t.Error("referrers or parents outlive their manifest")
	}
}

func learnAll(i *Index, content map[digest.Digest]oci.Manifest) *Index {
	for !i.Complete() {
		var read []oci.Manifest
		var absent []digest.Digest
		for desc := range i.Unread() {
			if m, ok := content[desc.Digest]; ok {
				read = append(read, m)
			} else {
				absent = append(absent, desc.Digest)
			}
		}
		i = i.Learn(read, absent)
	}
	return i
}

// What an earlier index knew of manifests that only indexes list, however many
// there are, is known to the next one.
func TestLearnFromFindsThemToo(t *testing.T) {
	t.Parallel()
	for children := range 80 {
		content := make(map[digest.Digest]oci.Manifest)
		var inner []oci.Manifest
		for n := range children {
			leaf := image(t, n, "")
			signature := image(t, -n, leaf.Digest)
			inner = append(inner, index(t, leaf, signature))
			content[leaf.Digest], content[signature.Digest], content[inner[n].Digest] = leaf, signature, inner[n]
		}
		top := index(t, inner...)
		content[top.Digest] = top
		listed := New().Replay([]storage.Change{put(top)})
		old := learnAll(listed, content)
		i := listed.LearnFrom(old)
		if !i.Complete() {
			t.Fatalf("of %d children not all are known", children)
		}
		for d := range content {
			if !has(i, d) || !slices.Equal(slices.Collect(i.Referrers(d, "")), slices.Collect(old.Referrers(d, ""))) {
				t.Fatalf("of %d children %s isn't found, or not what refers to it", children, d)
			}
		}
	}
}

func TestDeletedChildStaysHidden(t *testing.T) {
	t.Parallel()
	child := image(t, 1, "")
	top := index(t, child)
	i := apply(New(), put(child), put(top), del(child.Digest))
	if has(i, child.Digest) || !i.Complete() {
		t.Fatal("a deleted manifest is found through the index that lists it")
	}
	if i = apply(i, put(child)); !has(i, child.Digest) {
		t.Fatal("a manifest put again isn't found")
	}
}

func TestSparseChildIsNotFoundUntilItIsPut(t *testing.T) {
	t.Parallel()
	child := image(t, 1, "")
	i := apply(New(), put(index(t, child)))
	if has(i, child.Digest) || !i.Complete() {
		t.Fatal("a missing child is found, or is waited for")
	}
	if i = apply(i, put(child), setTag(tag(t, "c"), child.Digest)); !has(i, child.Digest) {
		t.Fatal("the child was put and isn't found")
	}
}

func TestDeleteTakesItsTags(t *testing.T) {
	t.Parallel()
	a, b := image(t, 1, ""), image(t, 2, "")
	i := apply(New(), put(a), put(b), setTag(tag(t, "x"), a.Digest), setTag(tag(t, "y"), a.Digest), setTag(tag(t, "z"), b.Digest))
	next, events := i.Apply([]storage.Change{del(a.Digest)})
	var tags []string
	for name := range next.Tags(oci.Tag{}) {
		tags = append(tags, name.String())
	}
	if !slices.Equal(tags, []string{"z"}) || len(events) != 3 {
		t.Fatalf("tags = %v, events = %v", tags, events)
	}
}

func TestReferrersPage(t *testing.T) {
	t.Parallel()
	subject := image(t, 0, "")
	i := apply(New(), put(subject))
	for n := range 20 {
		i = apply(i, put(image(t, n+1, subject.Digest)))
	}
	all := slices.Collect(i.Referrers(subject.Digest, ""))
	if len(all) != 20 || !slices.IsSortedFunc(all, func(a, b storage.Referrer) int { return slices.Compare([]byte(a.Digest), []byte(b.Digest)) }) {
		t.Fatalf("%d referrers, or out of order", len(all))
	}
	rest := slices.Collect(i.Referrers(subject.Digest, all[11].Digest))
	if len(rest) != 8 || rest[0].Digest != all[12].Digest {
		t.Fatalf("%d referrers after the twelfth", len(rest))
	}
}

func BenchmarkTagAt100000(b *testing.B) {
	i := New()
	m, err := oci.ParseManifest(oci.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`), digest.Canonical)
	if err != nil {
		b.Fatal(err)
	}
	changes := []storage.Change{put(m)}
	for n := range 100_000 {
		t, _ := oci.ParseTag(fmt.Sprintf("v%06d", n))
		changes = append(changes, setTag(t, m.Digest))
	}
	i = apply(i, changes...)
	extra, _ := oci.ParseTag("extra")
	for b.Loop() {
		apply(i, setTag(extra, m.Digest))
	}
}

// What a repository has in memory, the garbage collector goes through again and again.
func TestTagsTakeLittleMemory(t *testing.T) { //nolint:paralleltest // it measures the heap
	const count, most, few = 10_000, 300, 2 // bytes and objects for each tag and its manifest
	data := bytes.TrimSuffix(New().Bytes(), []byte("]}"))
	for n := range count {
		s := sumOf(digest.FromString(fmt.Sprint(n)))
		data = descOf(oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Size: int64(n)}).appendDescriptor(data, s, fmt.Sprintf("v1.%d", n))
		data = append(data, ',')
	}
	data = append(data[:len(data)-1], "]}"...)
	decoded := func() *Index {
		i, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		var known []oci.Manifest
		for d := range i.Unread() {
			known = append(known, oci.Manifest{Descriptor: d})
		}
		return i.Learn(known, nil)
	}
	pushed := func() *Index {
		i := New()
		for m := range decoded().Known() {
			i = apply(i, put(m), setTag(tag(t, fmt.Sprintf("v1.%d", m.Size)), m.Digest))
		}
		return i
	}
	for how, index := range map[string]func() *Index{"read": decoded, "pushed one by one": pushed} {
		bytesBefore, objectsBefore := heap()
		i := index()
		bytesAfter, objectsAfter := heap()
		each, objects := float64(bytesAfter-bytesBefore)/count, float64(objectsAfter-objectsBefore)/count
		t.Logf("%s: %.0f bytes and %.2f objects each", how, each, objects)
		if each > most || objects > few {
			t.Errorf("want %d bytes and %d objects at most", most, few)
		}
		if !slices.Equal(i.Bytes(), decoded().Bytes()) {
			t.Errorf("%s it has other tags", how)
		}
	}
	runtime.KeepAlive(data)
}

// An index of a few megabytes names a hundred thousand manifests that don't
// exist, and each of them takes the server's memory.
func TestAbsentChildrenTakeLittleMemory(t *testing.T) { //nolint:paralleltest // it measures the heap
	const count, most = 20_000, 700 // bytes each, of which the index has 150
	children := make([]string, count)
	for i := range children {
		children[i] = fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, oci.MediaTypeImageManifest, digest.FromString(fmt.Sprint(i)))
	}
	before, _ := heap()
	i := apply(New(), put(parse(t, oci.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[`+strings.Join(children, ",")+`]}`)))
	after, _ := heap()
	each := (after - before) / count
	runtime.KeepAlive(children)
	t.Logf("%d bytes each", each)
	if each > most {
		t.Errorf("want %d at most", most)
	}
	if i.Len() != 1 || !i.Complete() {
		t.Fatal("there's more in it than the one index")
	}
}

// Annotations are many and small, or JSON writes each of their characters as six.
func TestReferrersTakeLittleMemory(t *testing.T) { //nolint:paralleltest // it measures the heap
	var many []string
	for i := range 60_000 {
		many = append(many, fmt.Sprintf(`"%x":""`, i))
	}
	head := `{"schemaVersion":2,"layers":[],"subject":{"mediaType":"x","digest":"` + digest.FromString("subject").String() + `","size":1},`
	for raw, most := range map[string]float64{ // times the size of the manifest
		head + `"annotations":{` + strings.Join(many, ",") + `}}`:          1.5,
		head + `"annotations":{"a":"` + strings.Repeat("<", 1<<20) + `"}}`: 6.5,
		head + `"artifactType":"` + strings.Repeat("<", 1<<20) + `"}`:      7.5,
	} {
		before, _ := heap()
		i := apply(New(), put(parse(t, oci.MediaTypeImageManifest, raw)))
		after, _ := heap()
		times := float64(after-before) / float64(len(raw))
		t.Logf("%d bytes take %.1f times that", len(raw), times)
		if times > most {
			t.Errorf("want %.1f at most", most)
		}
		if i.Len() != 1 || !strings.HasPrefix(raw, head) {
			t.Fatal("it isn't there")
		}
	}
}

// heap is how many bytes are in use, and in how many objects. What a sync.Pool
// holds is gone after two collections.
func heap() (bytes, objects int64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.HeapObjects)
}
