package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
	"github.com/caddy-oci/oci-registry/storage/transfer"
)

// Options say how something is written or read.
type Options struct {
	// Progress counts while it goes on. Default: nobody does.
	Progress *transfer.Progress

	// Problem is told of each thing that isn't right, one call at a time. Default: nobody is.
	Problem func(transfer.Problem)
}

func (o Options) withDefaults() Options {
	if o.Progress == nil {
		o.Progress = new(transfer.Progress)
	}
	if o.Problem == nil {
		o.Problem = func(transfer.Problem) {}
	}
	return o
}

// ExportOne writes a repository as the only one of a tar file.
func ExportOne(ctx context.Context, to io.Writer, from storage.Store, name oci.Name, opts Options) error {
	return export(ctx, to, from, []oci.Name{name}, true, opts)
}

// Export writes repositories to a tar file, each in a folder of its name.
func Export(ctx context.Context, to io.Writer, from storage.Store, names []oci.Name, opts Options) error {
	return export(ctx, to, from, names, false, opts)
}

func export(ctx context.Context, to io.Writer, from storage.Store, names []oci.Name, alone bool, opts Options) error {
	e := &exporter{tar: tar.NewWriter(to), opts: opts.withDefaults()}
	e.opts.Progress.Repositories.Store(int64(len(names)))
	for _, name := range names {
		e.name, e.folder, e.from = name, name.String(), from.Repository(name)
		if alone {
			e.folder = ""
		}
		if err := e.repository(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		e.opts.Progress.Finished.Add(1)
	}
	written := func(name oci.Name) bool { return slices.Contains(names, name) }
	return errors.Join(transfer.TellBroken(ctx, from, written, e.opts.Problem), e.tar.Close())
}

// exporter writes one repository after the other.
type exporter struct {
	tar  *tar.Writer
	opts Options

	name   oci.Name
	folder string
	from   storage.Repository
}

// repository writes names before content, as they were at one moment.
func (e *exporter) repository(ctx context.Context) error {
	idx, err := e.from.Index(ctx)
	if err != nil {
		return err
	}
	raw, err := encodeIndex(idx)
	if err != nil {
		return err
	}
	if err := errors.Join(e.file(markerFile, []byte(layout.Marker)), e.file(indexFile, raw)); err != nil {
		return err
	}
	for d, err := range transfer.Contents(ctx, e.from, idx) {
		if err != nil {
			return fmt.Errorf("list the content: %w", err)
		}
		if err := e.blob(ctx, d); err != nil {
			return fmt.Errorf("%s: %w", d, err)
		}
	}
	return nil
}

// encodeIndex writes an index.json with all tags, and the manifests that nobody
// would find otherwise: not those that only an image index needs, since to other
// tools each manifest is an image of its own.
func encodeIndex(idx storage.Index) ([]byte, error) {
	list := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeImageIndex, Manifests: []oci.Descriptor{}}
	tagged := make(map[digest.Digest]bool)
	for tag, desc := range idx.Tags(oci.Tag{}) {
		tagged[desc.Digest] = true
		list.Manifests = append(list.Manifests, oci.Descriptor{
			MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size,
			Annotations: map[string]string{ocispec.AnnotationRefName: tag.String()},
		})
	}
	for desc := range idx.Manifests() {
		if !tagged[desc.Digest] && isEmpty(idx.Parents(desc.Digest)) {
			list.Manifests = append(list.Manifests, oci.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size})
		}
	}
	return json.Marshal(list)
}

func isEmpty[T any](s iter.Seq[T]) bool {
	for range s {
		return false
	}
	return true
}

// epoch is when everything was changed last, so that the same content makes the same file.
var epoch = time.Unix(0, 0)

func (e *exporter) header(name string, size int64) error {
	return e.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: path.Join(e.folder, name), Size: size, Mode: 0o644, ModTime: epoch,
	})
}

func (e *exporter) file(name string, content []byte) error {
	if err := e.header(name, int64(len(content))); err != nil {
		return err
	}
	_, err := e.tar.Write(content)
	return err
}

// blob writes a blob. That its bytes are wrong is known when they're written.
func (e *exporter) blob(ctx context.Context, d digest.Digest) error {
	b, err := transfer.Peek(ctx, e.from, d)
	if errors.Is(err, oci.BlobUnknown) {
		e.opts.Problem(transfer.Problem{Repository: e.name, What: d.String(), Err: errors.New("it's gone")})
		return nil
	}
	if err != nil {
		return err
	}
	if err := e.header(blobFile(d), b.Size); err != nil {
		return errors.Join(err, b.Close())
	}
	v := d.Verifier()
	n, err := io.Copy(io.MultiWriter(e.tar, v), b)
	e.opts.Progress.Bytes.Add(n)
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	if !v.Verified() {
		e.opts.Problem(transfer.Problem{Repository: e.name, What: d.String(), Err: errors.New("its bytes are damaged")})
	}
	e.opts.Progress.Copied.Add(1)
	return nil
}

// All are the names of all repositories of a store.
func All(ctx context.Context, s storage.Store) ([]oci.Name, error) {
	var names []oci.Name
	for name, err := range s.Repositories(ctx, oci.Name{}) {
		if err != nil {
			return nil, fmt.Errorf("list repositories: %w", err)
		}
		names = append(names, name)
	}
	return slices.Clip(names), nil
}
