package layout

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// model is what a repository should be: plain maps.
type model struct {
	Manifests map[digest.Digest]oci.Manifest
	Tags      map[string]digest.Digest
}

func (m model) clone() model { return model{maps.Clone(m.Manifests), maps.Clone(m.Tags)} }

func (m model) apply(c storage.Change) {
	switch c.Kind {
	case storage.PutChange:
		m.Manifests[c.Digest] = c.Manifest
	case storage.TagChange:
		if _, ok := m.Manifests[c.Digest]; ok {
			m.Tags[c.Tag.String()] = c.Digest
		}
	case storage.UntagChange:
		delete(m.Tags, c.Tag.String())
	case storage.DeleteChange:
		delete(m.Manifests, c.Digest)
		maps.DeleteFunc(m.Tags, func(_ string, d digest.Digest) bool { return d == c.Digest })
	default: // there are no blobs here
	}
}

// bytes is the index.json.
func (m model) bytes(t *testing.T) string {
	t.Helper()
	nameless := maps.Clone(m.Manifests)
	list := []oci.Descriptor{}
	plain := func(d digest.Digest) oci.Descriptor {
		return oci.Descriptor{MediaType: m.Manifests[d].MediaType, Digest: d, Size: m.Manifests[d].Size}
	}
	for _, tag := range slices.Sorted(maps.Keys(m.Tags)) {
		desc := plain(m.Tags[tag])
		desc.Annotations = map[string]string{refName: tag}
		list = append(list, desc)
		delete(nameless, desc.Digest)
	}
	for _, d := range slices.Sorted(maps.Keys(nameless)) {
		list = append(list, plain(d))
	}
	raw, err := json.Marshal(struct {
		MediaType     string           `json:"mediaType"`
		SchemaVersion int              `json:"schemaVersion"`
		Manifests     []oci.Descriptor `json:"manifests"`
	}{oci.MediaTypeImageIndex, 2, list})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// check compares an index with the model.
func (m model) check(t *testing.T, i *Index, all []oci.Manifest) {
	t.Helper()
	if got, want := string(i.Bytes()), m.bytes(t); got != want {
		t.Fatalf("index.json is\n%s\nwant\n%s", got, want)
	}
	tags := make(map[string]digest.Digest)
	for tag, desc := range i.Tags(oci.Tag{}) {
		tags[tag.String()] = desc.Digest
	}
	if !maps.Equal(tags, m.Tags) {
		t.Fatalf("tags are %v, want %v", tags, m.Tags)
	}
	var digests []digest.Digest
	for desc := range i.Manifests() {
		digests = append(digests, desc.Digest)
	}
	if want := slices.Sorted(maps.Keys(m.Manifests)); !slices.Equal(digests, want) || i.Len() != len(want) {
		t.Fatalf("manifests are %v, want %v", digests, want)
	}
	for _, about := range all {
		m.checkOne(t, i, about)
	}
}

// checkOne compares what an index says of a manifest that is there, or isn't.
func (m model) checkOne(t *testing.T, i *Index, about oci.Manifest) {
	t.Helper()
	d := about.Digest
	_, there := m.Manifests[d]
	tagged := slices.Contains(slices.Collect(maps.Values(m.Tags)), d)
	if i.Listed(d) != there || i.Tagged(d) != tagged {
		t.Fatalf("%s is listed %t and tagged %t, want %t and %t", d, i.Listed(d), i.Tagged(d), there, tagged)
	}
	desc, err := i.Resolve(oci.DigestRef(d))
	if want := (oci.Descriptor{MediaType: about.MediaType, Digest: d, Size: about.Size}); (err == nil) != there || there && !reflect.DeepEqual(desc, want) {
		t.Fatalf("%s is %v %v, want %v", d, desc, err, want)
	}
	var referrers []storage.Referrer
	var parents []digest.Digest
	for _, other := range m.Manifests {
		if other.Subject == d {
			referrers = append(referrers, referring(t, other))
		}
		if slices.ContainsFunc(other.Manifests, func(c oci.Descriptor) bool { return c.Digest == d }) {
			parents = append(parents, other.Digest)
		}
	}
	slices.SortFunc(referrers, func(a, b storage.Referrer) int { return cmp.Compare(a.Digest, b.Digest) })
	slices.Sort(parents)
	if got := slices.Collect(i.Referrers(d, "")); !slices.Equal(got, referrers) {
		t.Fatalf("referrers of %s are %v, want %v", d, got, referrers)
	}
	for n, after := range referrers {
		if got := slices.Collect(i.Referrers(d, after.Digest)); !slices.Equal(got, referrers[n+1:]) {
			t.Fatalf("referrers of %s after %s are %v, want %v", d, after.Digest, got, referrers[n+1:])
		}
	}
	if got := slices.Collect(i.Parents(d)); !slices.Equal(got, parents) {
		t.Fatalf("parents of %s are %v, want %v", d, got, parents)
	}
}

// universe is manifests that refer to each other, by digests of all kinds.
func universe(t *testing.T) []oci.Manifest {
	t.Helper()
	var all []oci.Manifest
	for n := range 24 {
		mediaType, body := oci.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"layers":[],"annotations":{"n":"<%d>"}`, n)
		if n > 3 && n%4 == 0 {
			mediaType = oci.MediaTypeImageIndex
			list, err := json.Marshal([]oci.Descriptor{all[n-1].Descriptor, all[n-2].Descriptor, all[n-4].Descriptor})
			if err != nil {
				t.Fatal(err)
			}
			body = `{"schemaVersion":2,"manifests":` + string(list)
		}
		if n > 0 && n%3 == 0 {
			body += fmt.Sprintf(`,"subject":{"mediaType":"x","digest":%q,"size":1}`, all[n/6].Digest)
		}
		algorithm := []digest.Algorithm{digest.SHA256, digest.SHA256, digest.SHA512, digest.SHA384}[n%4]
		m, err := oci.ParseManifest(mediaType, []byte(body+"}"), algorithm)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// FuzzApply does the same to an index and to maps, and looks at the indexes of
// earlier moments again. Two bytes are a change.
func FuzzApply(f *testing.F) {
	for _, step := range []byte{1, 5, 7, 11} {
		var data []byte
		for n := range byte(120) {
			data = append(data, n*step, n*3+step)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		all := universe(t)
		i, is := New(), model{make(map[digest.Digest]oci.Manifest), make(map[string]digest.Digest)}
		type moment struct {
			i  *Index
			is model
		}
		var moments []moment
		var pending []storage.Change
		const most = 200
		for step := range slices.Chunk(data[:min(len(data), 2*most)/2*2], 2) {
			c := change(t, step[0], step[1], all)
			is.apply(c)
			if pending = append(pending, c); step[0]&8 == 0 {
				i, pending = apply(i, pending...), nil
				moments = append(moments, moment{i, is.clone()})
			}
			if step[0]&0xf0 == 0xf0 && len(pending) == 0 {
				i = reread(t, i, is)
			}
		}
		moments = append(moments, moment{apply(i, pending...), is})
		for _, m := range moments {
			m.is.check(t, m.i, all)
		}
	})
}

// change is the change that two bytes mean.
func change(t *testing.T, kind, what byte, all []oci.Manifest) storage.Change {
	t.Helper()
	m, name := all[int(what)%len(all)], tag(t, fmt.Sprintf("v%d", what>>4))
	switch kind & 7 {
	case 0, 1, 2:
		return put(m)
	case 3, 4:
		return setTag(name, m.Digest)
	case 5:
		return storage.Change{Kind: storage.UntagChange, Tag: name}
	default:
		return del(m.Digest)
	}
}

// reread is an index as another process reads it.
func reread(t *testing.T, i *Index, is model) *Index {
	t.Helper()
	back, err := Decode(i.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return learnAll(back, is.Manifests)
}
