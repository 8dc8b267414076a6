//go:build real

package bench

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The requests of clients, as docker and crane send them.

const (
	imageType  = "Content-Type: " + ocispec.MediaTypeImageManifest + "\r\n"
	octets     = "Content-Type: application/octet-stream\r\n"
	acceptMany = "Accept: " + ocispec.MediaTypeImageManifest + ", " + ocispec.MediaTypeImageIndex + "\r\n"
)

// push pushes an image under a tag, and asks first for each blob whether it's there.
func (c *client) push(repo, tag string, p *picture) error {
	for _, b := range p.blobs {
		rep, err := c.do(http.MethodHead, "/v2/"+repo+"/blobs/"+b.digest.String(), "", nil, nil)
		if err != nil {
			return err
		}
		if rep.status == http.StatusOK {
			continue
		}
		if err := c.pushBlob(repo, b); err != nil {
			return err
		}
	}
	return c.pushManifest(repo, tag, p.manifest)
}

// pushBlob opens a session, sends the content, and ends the session.
func (c *client) pushBlob(repo string, b blob) error {
	rep, err := c.want(http.StatusAccepted, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	c.again = b.again
	rep, err = c.want(http.StatusAccepted, http.MethodPatch, target(rep.location), octets, b.bytes)
	c.again = 0
	if err != nil {
		return err
	}
	sep := "?"
	if strings.Contains(rep.location, "?") {
		sep = "&"
	}
	_, err = c.want(http.StatusCreated, http.MethodPut, target(rep.location)+sep+"digest="+b.digest.String(), "", nil)
	return err
}

func (c *client) pushManifest(repo, ref string, m blob) error {
	_, err := c.want(http.StatusCreated, http.MethodPut, "/v2/"+repo+"/manifests/"+ref, imageType, m.bytes)
	return err
}

// pull gets a manifest by its tag, then all blobs.
func (c *client) pull(repo, tag string, p *picture) (int, error) {
	rep, err := c.want(http.StatusOK, http.MethodGet, "/v2/"+repo+"/manifests/"+tag, acceptMany, nil)
	if err != nil {
		return 0, err
	}
	n := int(rep.length)
	for _, b := range p.blobs {
		got, err := c.pullBlob(repo, b)
		if err != nil {
			return n, err
		}
		n += got
	}
	return n, nil
}

// pullBlob gets a blob, and looks at its length alone: hashing it would take
// the time of the server.
func (c *client) pullBlob(repo string, b blob) (int, error) {
	rep, err := c.want(http.StatusOK, http.MethodGet, "/v2/"+repo+"/blobs/"+b.digest.String(), "", nil)
	if err == nil && int(rep.length) != b.size() {
		err = fmt.Errorf("%s has %d bytes, want %d", b.digest, rep.length, b.size())
	}
	return int(rep.length), err
}

// check gets content and hashes all of it: before a workload is measured.
func (c *client) check(path, header string, want blob) error {
	var got bytes.Buffer
	rep, err := c.do(http.MethodGet, path, header, nil, &got)
	if err == nil && (rep.status != http.StatusOK || digest.FromBytes(got.Bytes()) != want.digest) {
		err = fmt.Errorf("GET %s: status %d and %d bytes, want %s", path, rep.status, got.Len(), want.digest)
	}
	return err
}

// repo is the name of a repository that no other workload uses.
func (s *system) repo(workload string) string {
	return fmt.Sprintf("bench/%s-%d", workload, s.serial.Add(1))
}

// next is a number that wasn't used on this system before.
func (s *system) next() uint64 { return uint64(s.serial.Add(1)) }
