package filesystem_test

import (
	"fmt"
	"hash/crc32"

	"github.com/caddy-oci/oci-registry/oci"
)

// record is a line of a log, as format.md has it.
func record(body string) string {
	return fmt.Sprintf("%08x %s\n", crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli)), body)
}

// entry is a descriptor of index.json, as this package writes it.
func entry(m oci.Manifest, tag string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"org.opencontainers.image.ref.name":%q}}`,
		m.MediaType, m.Digest, m.Size, tag)
}
