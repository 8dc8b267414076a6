// Package archive writes repositories as OCI image layouts (image-spec, "OCI Image
// Layout") in a tar file, and reads them from one. Both go in one pass, from and to
// pipes.
//
//	oci-layout  index.json  blobs/<alg>/<hex>                                   one
//	<repository>/oci-layout  <repository>/index.json  <repository>/blobs/…      several
//
// A file with one is what other tools call an OCI archive. One with several,
// unpacked, is a root that storage/filesystem serves.
package archive

import (
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// The names of files in a layout (image-spec, "OCI Image Layout").
const (
	indexFile  = "index.json"
	markerFile = "oci-layout"
)

// blobFile is where a blob lies in its layout.
func blobFile(d digest.Digest) string {
	return path.Join("blobs", d.Algorithm().String(), d.Encoded())
}

// file is what the name of a file in a tar says.
type file struct {
	folder string        // of its layout; empty if that's the file itself
	blob   digest.Digest // which one it is, or
	index  bool          // it's index.json
}

// parseFile understands the names of those files that matter.
func parseFile(name string) (file, bool) {
	name = path.Clean(strings.TrimPrefix(name, "/"))
	folder, base := path.Split(name)
	folder = strings.TrimSuffix(folder, "/")
	if base == indexFile {
		return file{folder: folder, index: true}, true
	}
	rest, algorithm := path.Split(folder)
	d, err := oci.ParseDigest(algorithm + ":" + base)
	if err != nil {
		return file{}, false
	}
	rest, blobs := path.Split(strings.TrimSuffix(rest, "/"))
	return file{folder: strings.TrimSuffix(rest, "/"), blob: d}, blobs == "blobs"
}
