package layout

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// FuzzDecode: an index.json that can be read is written so that it's read as the
// same again, byte for byte from then on; and what isn't known of it, in
// descriptors and around them, is there still.
func FuzzDecode(f *testing.F) {
	d1, d2 := digest.FromString("1"), digest.SHA512.FromString("2")
	one := `{"mediaType":"` + oci.MediaTypeImageManifest + `","digest":"` + d1.String() + `","size":1`
	two := `{"mediaType":"` + oci.MediaTypeImageIndex + `","digest":"` + d2.String() + `","size":2`
	named := func(desc, name string) string {
		return desc + `,"annotations":{"` + refName + `":"` + name + `","other":"x"}}`
	}
	for _, s := range []string{
		`{"manifests":[]}`, `{"manifests":null}`, `{"schemaVersion":2}`, `{}`, `null`, `[]`, ``, `{"manifests":[`, `{"manifests":[{}]}`, `{"manifests":{}}`,
		`{"schemaVersion":2,"manifests":[` + one + `}]}`,
		`{"manifests":[` + named(one, "v1") + `,` + named(one, "v2") + `,` + two + `}]}`,
		`{"manifests":[` + named(one, "v1") + `,` + named(two, "v1") + `]}`, // the last counts
		`{"manifests":[` + named(one, "not a tag") + `,` + named(one, "docker.io/library/x:latest") + `,` + named(one, "") + `]}`,
		`{"manifests":[` + one + `},` + one + `,"platform":{"os":"linux"},"unknown":[1e400]},` + named(one, "v") + `]}`,
		`{"x":{"y":[1,2]},"annotations":{"a":"b"},"mediaType":"m","é\n":null,"manifests":[` + one + `,"urls":["a"],"data":"MQ==","artifactType":"t"}]}`,
		"{\"\xff\":1,\"\xfe\":2,\"manifests\":[]}", `{"Manifests":[` + one + `}],"manifests":[` + two + `}]}`,
		`{"manifests":[` + one + `}],"manifests":[` + two + `}]}`, ` { "manifests" : [ ` + one + ` } ] } `,
		`{"manifests":[` + one + `,"digest":"x"}]}`, `{"manifests":[` + one + `,"Digest":"` + d2.String() + `"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := Decode(data)
		if err != nil {
			return
		}
		written := i.Bytes()
		back, err := Decode(written)
		if err != nil {
			t.Fatalf("%s\nis written as\n%s\nwhich isn't one: %v", data, written, err)
		}
		if again := back.Bytes(); !bytes.Equal(again, written) {
			t.Fatalf("%s\nis written as\n%s\nand then as\n%s", data, written, again)
		}
		was, is := contentOf(t, data), contentOf(t, written)
		for d, desc := range was.Nameless {
			if _, there := is.Nameless[d]; there && desc == nil {
				is.Nameless[d] = nil // what it had was that of its name
			}
		}
		if !reflect.DeepEqual(was, is) {
			t.Fatalf("%s\nis written as\n%s\nwhich has\n%v\ninstead of\n%v", data, written, is, was)
		}
		if got, want := meaningOf(i), meaningOf(back); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\nmeans %v, and written and read again %v", data, got, want)
		}
	})
}

// content is an index.json as others read it: what is around the manifests; of
// each name its last descriptor; and of each manifest that has none its last
// descriptor without one, if it has any.
type content struct {
	Head     map[string]any
	Named    map[string]any
	Nameless map[digest.Digest]any
}

func contentOf(t *testing.T, data []byte) content {
	t.Helper()
	c := content{make(map[string]any), make(map[string]any), make(map[digest.Digest]any)}
	var head map[string]json.RawMessage
	var list []json.RawMessage
	if err := json.Unmarshal(data, &head); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(head["manifests"], &list); err != nil {
		t.Fatal(err)
	}
	delete(head, "manifests")
	for key, raw := range head {
		c.Head[key] = value(t, raw)
	}
	digests := make(map[string]digest.Digest)
	for _, raw := range list {
		var desc oci.Descriptor
		if err := json.Unmarshal(raw, &desc); err != nil {
			t.Fatal(err)
		}
		if name := desc.Annotations[refName]; name != "" {
			c.Named[name], digests[name] = value(t, raw), desc.Digest
			if _, known := c.Nameless[desc.Digest]; !known {
				c.Nameless[desc.Digest] = nil
			}
		} else {
			c.Nameless[desc.Digest] = value(t, raw)
		}
	}
	for _, d := range digests {
		delete(c.Nameless, d)
	}
	return c
}

// value is what JSON means, with numbers as they are written.
func value(t *testing.T, raw json.RawMessage) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// meaningOf is what the names of an index mean, and its manifests.
func meaningOf(i *Index) map[string]digest.Digest {
	m := make(map[string]digest.Digest)
	for tag, desc := range i.Tags(oci.Tag{}) {
		m[tag.String()] = desc.Digest
	}
	for desc := range i.Manifests() {
		m[desc.Digest.String()] = desc.Digest
	}
	return m
}

// FuzzReferrer: a list of referrers has the descriptor of a manifest as json.Marshal
// writes it, whatever the manifest says, and wherever the index learned of it from.
func FuzzReferrer(f *testing.F) {
	for _, s := range []string{"", "plain", `"\/`, "</a>&", "\x00\t\n\x1f\x7f", "é\U0001f4a9", "\xff", "\u2028\u2029\ufffd"} {
		f.Add(s, "key"+s, s)
	}
	f.Fuzz(func(t *testing.T, artifactType, key, value string) {
		subject := digest.FromString("subject")
		raw, err := json.Marshal(map[string]any{
			"schemaVersion": 2, "layers": []oci.Descriptor{}, "artifactType": artifactType,
			"annotations": map[string]string{key: value, "a": key, "~": artifactType},
			"subject":     oci.Descriptor{MediaType: "x", Digest: subject, Size: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		m := parse(t, oci.MediaTypeImageManifest, string(raw))
		want := []storage.Referrer{referring(t, m)}
		from := map[string]*Index{"pushed": apply(New(), put(m))}
		from["read"] = learnAll(New().Replay([]storage.Change{put(m)}), map[digest.Digest]oci.Manifest{m.Digest: m})
		from["known to an older index"] = New().Replay([]storage.Change{put(m)}).LearnFrom(from["pushed"])
		from["copied"] = New()
		for known := range from["pushed"].Known() {
			from["copied"] = apply(from["copied"], put(known))
		}
		for how, i := range from {
			if got := slices.Collect(i.Referrers(subject, "")); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", how, got, want)
			}
		}
	})
}
