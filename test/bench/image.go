//go:build real

package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blob is content and its digest.
type blob struct {
	digest digest.Digest
	bytes  []byte
	again  int // how many more times the bytes come, in a large blob
}

func (b blob) size() int { return len(b.bytes) * (1 + b.again) }

// picture is an image: a config and layers, and the manifest that names them.
type picture struct {
	blobs    []blob // the config first
	manifest blob
}

// size is the number of bytes of all of it.
func (p *picture) size() int {
	n := p.manifest.size()
	for _, b := range p.blobs {
		n += b.size()
	}
	return n
}

// noise is what content is cut from: bytes that don't compress.
var noise = func() []byte {
	b := make([]byte, 16<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}()

// newBlob makes content of so many bytes, at least 16, that differs from serial to serial.
func newBlob(serial uint64, size int) blob {
	b := make([]byte, size)
	for n := 0; n < size; {
		n += copy(b[n:], noise)
	}
	binary.BigEndian.PutUint64(b, serial)
	binary.BigEndian.PutUint64(b[8:], uint64(size))
	return blob{digest: digest.FromBytes(b), bytes: b}
}

// newLarge makes content of so many bytes, a multiple of largeBlock, of one block
// again and again. A client that had to fetch all of it from memory would take
// more of the machine than the server.
func newLarge(serial uint64, size int) blob {
	b := newBlob(serial, largeBlock)
	b.again = size/largeBlock - 1
	h := digest.Canonical.Digester()
	for range 1 + b.again {
		_, _ = h.Hash().Write(b.bytes) // never fails
	}
	b.digest = h.Digest()
	return b
}

const largeBlock = 256 << 10

// newPicture makes an image with layers of these sizes.
func newPicture(serial uint64, layers ...int) *picture {
	p := new(picture)
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"serial":%d,"pad":%q}`,
		serial, strings.Repeat("x", 1000))
	p.blobs = append(p.blobs, blob{digest: digest.FromBytes(config), bytes: config})
	var list []string
	for i, size := range layers {
		b := newBlob(serial<<8|uint64(i), size)
		p.blobs = append(p.blobs, b)
		list = append(list, describe(ocispec.MediaTypeImageLayerGzip, b))
	}
	m := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`,
		ocispec.MediaTypeImageManifest, describe(ocispec.MediaTypeImageConfig, p.blobs[0]), strings.Join(list, ","))
	p.manifest = blob{digest: digest.FromBytes(m), bytes: m}
	return p
}

// sibling is another image with the same config and layers.
func (p *picture) sibling(serial uint64) blob {
	m := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"annotations":{"serial":"%d"},%s`,
		ocispec.MediaTypeImageManifest, serial, p.manifest.bytes[strings.Index(string(p.manifest.bytes), `"config"`):])
	return blob{digest: digest.FromBytes(m), bytes: m}
}

// referrer is an artifact without content whose subject is this image.
func (p *picture) referrer(serial uint64) blob {
	empty := describe(ocispec.MediaTypeEmptyJSON, emptyJSON)
	m := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":"application/vnd.example.bench","config":%s,"layers":[%s],`+
		`"subject":%s,"annotations":{"serial":"%d"}}`,
		ocispec.MediaTypeImageManifest, empty, empty, describe(ocispec.MediaTypeImageManifest, p.manifest), serial)
	return blob{digest: digest.FromBytes(m), bytes: m}
}

var emptyJSON = blob{digest: digest.FromString("{}"), bytes: []byte("{}")}

func describe(mediaType string, b blob) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, b.digest, b.size())
}
