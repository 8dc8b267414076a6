package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"mime"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Descriptor is the descriptor of image-spec v1.1.1.
type Descriptor = ocispec.Descriptor

// The media types that the registry itself gives a meaning. Manifests of any
// other type are stored and served as they are.
const (
	MediaTypeImageManifest  = ocispec.MediaTypeImageManifest
	MediaTypeImageIndex     = ocispec.MediaTypeImageIndex
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeArtifact       = "application/vnd.oci.artifact.manifest.v1+json" // of image-spec's 1.1 candidates; clients remain
	MediaTypeBlob           = "application/octet-stream"
)

// IsIndex reports whether manifests of this media type list other manifests.
func IsIndex(mediaType string) bool {
	return mediaType == MediaTypeImageIndex || mediaType == MediaTypeDockerList
}

// IsManifest reports whether this media type is one of the manifest types that
// the registry knows. Others may be manifests too.
func IsManifest(mediaType string) bool {
	switch mediaType {
	case MediaTypeImageManifest, MediaTypeDockerManifest, MediaTypeArtifact:
		return true
	}
	return IsIndex(mediaType)
}

// Manifest is a parsed manifest with the exact bytes it came as. Its Descriptor
// is what a list of referrers says of it: with artifact type and annotations.
type Manifest struct {
	Descriptor

	Raw       []byte        // the bytes as pushed; never encoded again
	Subject   digest.Digest // zero if it has none
	Config    *Descriptor   // of an image, nil if it has none; it's the first of Blobs, too
	Blobs     []Descriptor  // config, then layers; of an index, the children that aren't manifests
	Manifests []Descriptor  // children of an image index
}

// wire is the union of what the known manifest types have.
type wire struct {
	common

	SchemaVersion json.RawMessage `json:"schemaVersion"`
	Config        *Descriptor     `json:"config"`
	Layers        []Descriptor    `json:"layers"`
	Blobs         []Descriptor    `json:"blobs"`
	Manifests     []Descriptor    `json:"manifests"`
	FSLayers      json.RawMessage `json:"fsLayers"` // of docker's first type
}

// common is what a manifest of any type may have.
type common struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Subject      *Descriptor       `json:"subject"`
	Annotations  map[string]string `json:"annotations"`
}

// ParseManifest reads a manifest of the given media type (as in Content-Type;
// parameters are dropped; empty means the manifest's own field says) and
// addresses it by algorithm. It fails with ManifestInvalid if raw isn't a JSON
// object, if its mediaType isn't the one given, if neither says a type, if a
// descriptor in it is unusable, or if clients can disagree about what it says.
//
// Of a type that the registry doesn't know it reads only what any manifest may
// have, and what it can't read it takes as absent.
func ParseManifest(mediaType string, raw []byte, algorithm digest.Algorithm) (Manifest, error) {
	mediaType, x, err := decode(mediaType, raw)
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{Raw: raw, Descriptor: Descriptor{
		MediaType: mediaType, Digest: algorithm.FromBytes(raw), Size: int64(len(raw)),
		ArtifactType: x.ArtifactType, Annotations: x.Annotations,
	}}
	if x.Subject != nil {
		m.Subject = x.Subject.Digest
	}
	if IsIndex(mediaType) {
		m.addChildren(x.Manifests)
	} else {
		m.addBlobs(x)
	}
	return m, m.check(x.Subject)
}

// decode reads the fields that matter and settles the media type. JSON that
// nests too deep is refused by encoding/json itself, at 10,000 levels. Descriptors take
// many times the memory that their JSON does, so they're decoded last, if at all.
func decode(header string, raw []byte) (string, wire, error) {
	if err := checkObject(raw); err != nil {
		return "", wire{}, err
	}
	found, err := scanKeys(raw, manifestShape)
	if err != nil {
		return "", wire{}, err
	}
	mediaType, err := settleType(header, found.mediaType)
	if err != nil {
		return "", wire{}, err
	}
	var x wire
	switch {
	case !IsManifest(mediaType):
		x.common = decodeCommon(raw)
		return mediaType, x, nil
	case found.respelled != nil:
		return "", wire{}, found.respelled
	}
	if err := json.Unmarshal(raw, &x); err != nil {
		return "", wire{}, Errorf(ManifestInvalid, "%w", err)
	}
	return mediaType, x, x.check(mediaType)
}

// checkObject refuses what isn't a JSON object.
func checkObject(raw []byte) error {
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return Errorf(ManifestInvalid, "not a JSON object")
	}
	if json.Valid(raw) {
		return nil
	}
	return Errorf(ManifestInvalid, "%w", json.Unmarshal(raw, new(struct{}))) // which says what's wrong
}

// decodeCommon reads what a manifest of a type has that the registry doesn't know, which
// is nothing if it can't be read.
func decodeCommon(raw []byte) common {
	var x common
	if checkKeys(raw, commonShape) != nil || json.Unmarshal(raw, &x) != nil {
		return common{}
	}
	return x
}

// check refuses what is of one type to one client and of another to another, and
// so hides content from one of them (CVE-2021-41190).
func (x *wire) check(mediaType string) error {
	isImage, isIndex := x.Layers != nil, x.Manifests != nil
	if IsIndex(mediaType) && (isImage || x.Config != nil) || !IsIndex(mediaType) && isIndex {
		return Errorf(ManifestInvalid, "both an image and an image index")
	}
	if x.FSLayers != nil {
		return Errorf(ManifestInvalid, "fsLayers in a manifest of another type")
	}
	if x.SchemaVersion != nil && string(x.SchemaVersion) != "2" {
		return Errorf(ManifestInvalid, "schemaVersion is not 2")
	}
	return nil
}

// settleType returns the media type by a Content-Type and the field mediaType.
func settleType(header string, field []byte) (string, error) {
	var s *string
	if field != nil && json.Unmarshal(field, &s) != nil {
		return "", Errorf(ManifestInvalid, "mediaType is not a string")
	}
	if s == nil {
		return agreeType(header, "")
	}
	return agreeType(header, *s)
}

// agreeType returns the type that Content-Type and the mediaType field agree on.
func agreeType(header, field string) (string, error) {
	if header != "" {
		if _, _, err := mime.ParseMediaType(header); err != nil {
			return "", Errorf(ManifestInvalid, "Content-Type %q: %w", clip(header), err)
		}
		header, _, _ = strings.Cut(header, ";")
		header = strings.TrimSpace(header)
		if strings.EqualFold(field, header) {
			header = field // a Content-Type is compared without case, RFC 9110 section 8.3.1
		}
	}
	switch {
	case header == "" && field == "":
		return "", Errorf(ManifestInvalid, "neither Content-Type nor mediaType says what it is")
	case header == "":
		// It's going to be a Content-Type, and has to mean the same when it's read back.
		if t, _, err := mime.ParseMediaType(field); err != nil || !strings.EqualFold(t, field) {
			return "", Errorf(ManifestInvalid, "mediaType %q isn't a media type", clip(field))
		}
		return field, nil
	case field != "" && field != header:
		return "", Errorf(ManifestInvalid, "mediaType %q pushed with Content-Type %q", clip(field), clip(header))
	}
	return header, nil
}

// addChildren sorts the entries of an index: BuildKit's cache indexes list
// layers and configs beside manifests.
func (m *Manifest) addChildren(entries []Descriptor) {
	for _, e := range entries {
		if strings.Contains(e.MediaType, "manifest") || strings.Contains(e.MediaType, "image.index") || e.MediaType == "" {
			m.Manifests = append(m.Manifests, e)
		} else {
			m.Blobs = append(m.Blobs, e)
		}
	}
}

func (m *Manifest) addBlobs(x wire) {
	if x.Config != nil {
		m.Config = x.Config
		m.Blobs = append(m.Blobs, *x.Config)
		if m.ArtifactType == "" {
			m.ArtifactType = x.Config.MediaType // distribution-spec, "Listing Referrers"
		}
	}
	m.Blobs = append(append(m.Blobs, x.Layers...), x.Blobs...)
}

// check makes sure that every digest can be looked up, and that no descriptor
// contradicts itself.
func (m *Manifest) check(subject *Descriptor) error {
	for _, list := range [][]Descriptor{m.Blobs, m.Manifests} {
		for i := range list {
			if err := checkDescriptor(&list[i]); err != nil {
				return err
			}
		}
	}
	if subject != nil && subject.Digest != "" {
		return checkDescriptor(subject)
	}
	return nil
}

// checkDescriptor refuses embedded content that isn't what the digest says:
// clients may use it instead of what they'd verify.
func checkDescriptor(d *Descriptor) error {
	if _, err := ParseDigest(d.Digest.String()); err != nil {
		return Errorf(ManifestInvalid, "descriptor: %w", err)
	}
	if d.Size < 0 {
		return Errorf(ManifestInvalid, "descriptor %s has size %d", d.Digest, d.Size)
	}
	if d.Data != nil && (int64(len(d.Data)) != d.Size || d.Digest.Algorithm().FromBytes(d.Data) != d.Digest) {
		return Errorf(ManifestInvalid, "descriptor %s has the data of another", d.Digest)
	}
	return nil
}

// CheckImage fails with ManifestInvalid if m is an image without a config, which
// no client can use. ParseManifest reads one nevertheless, as other tools may
// have stored it.
func (m *Manifest) CheckImage() error {
	if (m.MediaType == MediaTypeImageManifest || m.MediaType == MediaTypeDockerManifest) && m.Config == nil {
		return Errorf(ManifestInvalid, "an image without a config")
	}
	return nil
}

// Required yields the blobs that must be there before m is accepted: all but
// the layers that are meant to be fetched from elsewhere.
func (m *Manifest) Required() iter.Seq[Descriptor] {
	return func(yield func(Descriptor) bool) {
		for _, b := range m.Blobs {
			if !isNondistributable(b.MediaType) && !yield(b) {
				return
			}
		}
	}
}

// isNondistributable knows image-spec's nondistributable layers and docker's foreign ones.
func isNondistributable(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.")
}

// String names the manifest in a log line or an error.
func (m *Manifest) String() string { return fmt.Sprintf("%s (%s)", m.Digest, m.MediaType) }
