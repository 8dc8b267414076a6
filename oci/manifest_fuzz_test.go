package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
)

// FuzzParseManifest: what is accepted is accepted again as what it was stored
// as, means the same, can be looked up, and means the same to readers of other
// kinds; what isn't is ManifestInvalid.
func FuzzParseManifest(f *testing.F) {
	for _, mediaType := range []string{
		MediaTypeImageManifest, MediaTypeDockerManifest, MediaTypeImageIndex, MediaTypeArtifact, "", "application/x.Other; a=b", "text/plain",
	} {
		for _, raw := range []string{
			`{}`, `{"mediaType":"` + MediaTypeImageManifest + `"}`, `{"config":{` + one + `},"layers":[{` + two + `,"size":1}]}`,
			`{"manifests":[{"mediaType":"x",` + one + `},{` + two + `}],"subject":{` + three + `}}`, `{"mediaType":"A/b;c"}`, `[`, `{"subject":5}`,
			`{"config":{` + one + `},"Config":{` + two + `}}`, `{"layers":[{` + one + `}],"layers":[{` + two + `}]}`,
			`{"layers":[null,{` + one + `,"data":"MQ==","size":1,"platform":{"os":"linux"}}],"x":[1.5e3,true,"\"\\\u0041"]}`,
			`{"blobs":[{` + one + `}],"artifactType":"a/b","annotations":{"k":"v","K":""},"schemaVersion":2}`, "{\"a\xff\":{},\"\xfe\":[]}",
		} {
			f.Add(mediaType, []byte(raw))
		}
	}
	f.Fuzz(func(t *testing.T, mediaType string, raw []byte) {
		before := bytes.Clone(raw)
		m, err := ParseManifest(mediaType, raw, digest.Canonical)
		if !bytes.Equal(raw, before) {
			t.Fatal("the bytes were changed")
		}
		if err != nil {
			if !errors.Is(err, ManifestInvalid) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if m.Digest != digest.FromBytes(raw) || m.Size != int64(len(raw)) || m.MediaType == "" || !bytes.Equal(m.Raw, raw) {
			t.Fatalf("described as %s, %d bytes", m.String(), m.Size)
		}
		again, err := ParseManifest(m.MediaType, raw, digest.Canonical)
		if err != nil || again.MediaType != m.MediaType || fmt.Sprint(named(again)) != fmt.Sprint(named(m)) {
			t.Fatalf("stored as %s it is %s: %v", m.String(), again.String(), err)
		}
		for _, d := range named(m) {
			if _, err := ParseDigest(d); err != nil && d != "" {
				t.Fatal(err)
			}
		}
		if IsManifest(m.MediaType) {
			for reader, names := range map[string][]string{"the last key counts": lastKeys(raw, m), "the first key counts": firstKeys(t, raw, m)} {
				if got := named(m); !slices.Equal(got, names) {
					t.Fatalf("%s names %q, to others, where %s, it names %q", m.String(), got, reader, names)
				}
			}
		}
	})
}

// named are all digests that a manifest names, sorted.
func named(m Manifest) []string {
	names := []string{m.Subject.String()}
	for _, d := range slices.Concat(m.Blobs, m.Manifests) {
		names = append(names, d.Digest.String())
	}
	slices.Sort(names)
	return names
}

// lastKeys are the digests that a reader finds who takes keys as they are spelled.
func lastKeys(raw []byte, m Manifest) []string {
	var object map[string]any
	_ = json.Unmarshal(raw, &object) // it was read before
	return digests(object, m.MediaType)
}

// firstKeys are those that a reader finds for whom the first of equal keys counts.
func firstKeys(t *testing.T, raw []byte, m Manifest) []string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	object, _ := firstValue(t, d).(map[string]any)
	return digests(object, m.MediaType)
}

func firstValue(t *testing.T, d *json.Decoder) any {
	t.Helper()
	token := next(t, d)
	switch token {
	case json.Delim('['):
		var list []any
		for d.More() {
			list = append(list, firstValue(t, d))
		}
		next(t, d)
		return list
	case json.Delim('{'):
		object := make(map[string]any)
		for d.More() {
			key, _ := next(t, d).(string)
			if value := firstValue(t, d); object[key] == nil {
				object[key] = value
			}
		}
		next(t, d)
		return object
	}
	return token
}

func next(t *testing.T, d *json.Decoder) json.Token {
	t.Helper()
	token, err := d.Token()
	if err != nil {
		t.Fatalf("what was accepted isn't JSON: %v", err)
	}
	return token
}

// digests are those of all descriptors in a manifest of the type.
func digests(object map[string]any, mediaType string) []string {
	subject, _ := object["subject"].(map[string]any)
	d, _ := subject["digest"].(string)
	names := []string{d}
	keys := []string{"config", "layers", "blobs"}
	if IsIndex(mediaType) {
		keys = []string{"manifests"}
	}
	for _, key := range keys {
		list, isList := object[key].([]any)
		if descriptor, ok := object[key].(map[string]any); ok && !isList {
			list = []any{descriptor}
		}
		for _, e := range list {
			descriptor, _ := e.(map[string]any)
			d, _ := descriptor["digest"].(string)
			names = append(names, d)
		}
	}
	slices.Sort(names)
	return names
}
