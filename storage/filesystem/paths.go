package filesystem

import (
	"io/fs"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

const (
	poolDir    = "_pool/_" // one domain, until there are tenants
	reposDir   = "_repos"
	uploadsDir = "_uploads"
)

func blobsDir(n oci.Name) string { return path.Join(n.String(), "blobs") }

// blobDir is where a repository keeps the blobs of an algorithm.
func blobDir(n oci.Name, a digest.Algorithm) string {
	return path.Join(blobsDir(n), a.String())
}

func blobPath(n oci.Name, d digest.Digest) string {
	return path.Join(blobDir(n, d.Algorithm()), d.Encoded())
}

func poolPath(d digest.Digest) string {
	return path.Join(poolDir, d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

// ownDir is where we keep our own of a repository. A comma is in no name, so
// the encoded names are distinct, and one component long.
func ownDir(n oci.Name) string {
	return path.Join(reposDir, strings.ReplaceAll(n.String(), "/", ","))
}

// ownName is the repository that a folder of ours belongs to.
func ownName(encoded string) (oci.Name, error) {
	return oci.ParseName(strings.ReplaceAll(encoded, ",", "/"))
}

func indexPath(n oci.Name) string  { return path.Join(n.String(), "index.json") }
func markerPath(n oci.Name) string { return path.Join(n.String(), "oci-layout") }
func logPath(n oci.Name) string    { return path.Join(ownDir(n), "log") }

// originalPath is an empty file that is there as long as the log is. Who copies a
// root leaves it out, as everything that begins with tmp-, so it tells a log
// from a copy of one.
func originalPath(n oci.Name) string { return path.Join(ownDir(n), "tmp-log") }

func lastPath(n oci.Name) string { return path.Join(ownDir(n), "index.json") }

// isFile reports whether name is a regular file.
func isFile(fi fs.FileInfo, err error) bool { return err == nil && fi.Mode().IsRegular() }
