package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
	"github.com/caddy-oci/oci-registry/storage/transfer"
)

// ImportOptions say how a tar file is read.
type ImportOptions struct {
	Options

	// Into is what the names of the repositories begin with. A layout that's the
	// only one of its file becomes the repository of this name. Default: nothing,
	// each becomes the repository that its folder is called.
	Into string

	// Overwrite moves tags that name something else. Default: they stay, and are problems.
	Overwrite bool

	// By is who changes the store, for its history. Default: empty, anonymous.
	By string
}

// maxIndex is how large all index.json of a file may be together, in bytes: they are
// in memory.
const maxIndex = 256 << 20

// Import reads a tar file into a store. Content is stored as it comes, names when
// all of it is there: of a file that's cut off no name is, and reading it again
// goes on. Nothing is removed.
func Import(ctx context.Context, to storage.Store, from io.Reader, opts ImportOptions) error {
	opts.Options = opts.withDefaults()
	i := &importer{opts: opts, to: to, layouts: make(map[oci.Name]*landed)}
	if err := i.read(ctx, from); err != nil {
		return err
	}
	if len(i.layouts) == 0 {
		return errors.New("there's no OCI layout in it, neither index.json nor blobs")
	}
	for name, l := range i.layouts {
		if err := i.understand(ctx, name, l); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var named transfer.Progress // the content is counted already
	err := transfer.Copy(ctx, to, arrived{to, i.layouts}, transfer.Options{
		Overwrite: opts.Overwrite, By: opts.By, Progress: &named, Problem: opts.Problem,
	})
	opts.Progress.Repositories.Store(named.Repositories.Load())
	opts.Progress.Finished.Store(named.Finished.Load())
	return err
}

type importer struct {
	opts    ImportOptions
	to      storage.Store
	layouts map[oci.Name]*landed
	indexes int64 // bytes of index.json that were read
}

// landed is a layout of which the content is stored.
type landed struct {
	raw      []byte        // its index.json; nil until that came
	index    *layout.Index // what that means
	contents map[digest.Digest]int64
}

// watched knows whether a reader has come to its end.
type watched struct {
	io.Reader

	ended bool
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.ended = w.ended || n == 0 && errors.Is(err, io.EOF)
	return n, err
}

// next is Next of t, which takes a file that's cut off between two entries for
// whole: a whole one ends in empty blocks, behind which nothing is read.
func (w *watched) next(t *tar.Reader) (*tar.Header, error) {
	h, err := t.Next()
	switch {
	case errors.Is(err, io.EOF) && w.ended:
		return nil, fmt.Errorf("the tar file is cut off: %w", io.ErrUnexpectedEOF)
	case errors.Is(err, io.EOF):
		_, _ = io.Copy(io.Discard, w) // who writes to a pipe may not be done; all that counts was read
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("read the tar file: %w", err)
	}
	return h, nil
}

func (i *importer) read(ctx context.Context, from io.Reader) error {
	w := &watched{Reader: from}
	for t := tar.NewReader(w); ; {
		h, err := w.next(t)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		f, ok := parseFile(h.Name)
		if !ok || h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeLink && h.Typeflag != tar.TypeGNUSparse {
			continue
		}
		if isSparse(h) {
			return fmt.Errorf("%s: it's sparse: what is small in the file would be large", h.Name)
		}
		name, err := i.name(f.folder)
		if err != nil {
			return err
		}
		if i.layouts[name] == nil {
			i.layouts[name] = &landed{contents: make(map[digest.Digest]int64)}
		}
		if err := i.take(ctx, name, f, h, t); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// isSparse reports whether a file is mostly holes, which take no room in a tar file.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// name is that of the repository that a folder becomes.
func (i *importer) name(folder string) (oci.Name, error) {
	if folder != "" {
		if _, err := oci.ParseName(folder); err != nil { // "..", say, which would lead out of Into
			return oci.Name{}, err
		}
	}
	s := path.Join(i.opts.Into, folder)
	if s == "" {
		return oci.Name{}, errors.New("the file has one layout, and doesn't say of which repository: say into which one it's to be imported")
	}
	return oci.ParseName(s)
}

func (i *importer) take(ctx context.Context, name oci.Name, f file, h *tar.Header, content io.Reader) error {
	l := i.layouts[name]
	switch {
	case h.Typeflag == tar.TypeLink:
		return i.link(ctx, name, f, h)
	case !f.index:
		return i.blob(ctx, name, f.blob, h.Size, content)
	case h.Size > maxIndex-i.indexes:
		return fmt.Errorf("%d bytes are too many", h.Size)
	}
	i.indexes += h.Size
	var err error
	l.raw, err = io.ReadAll(content)
	return err
}

// blob stores a blob, unless it's there.
func (i *importer) blob(ctx context.Context, name oci.Name, d digest.Digest, size int64, content io.Reader) error {
	r, l := i.to.Repository(name), i.layouts[name]
	if desc, err := r.StatBlob(ctx, d); err == nil && desc.Size == size {
		l.contents[d] = size
		i.opts.Progress.Skipped.Add(1)
		return nil
	}
	_, err := storage.PutBlob(ctx, r, d, content, storage.UploadOptions{By: i.opts.By, Size: size})
	if errors.Is(err, oci.DigestInvalid) {
		i.opts.Problem(transfer.Problem{Repository: name, What: d.String(), Err: errors.New("its bytes are damaged")})
		return nil
	}
	if err == nil {
		l.contents[d] = size
		i.opts.Progress.Bytes.Add(size)
		i.opts.Progress.Copied.Add(1)
	}
	return err
}

// link shares a blob that tar had already, in another layout.
func (i *importer) link(ctx context.Context, name oci.Name, f file, h *tar.Header) error {
	source, ok := parseFile(h.Linkname)
	if !ok || f.index || source.blob != f.blob {
		return nil // no blob under its own name; if something needs it, that is told
	}
	from, err := i.name(source.folder)
	if err != nil {
		return err
	}
	if there := i.layouts[from]; there == nil {
		return nil // of a repository that isn't in the file nothing may be taken
	} else if _, had := there.contents[f.blob]; !had {
		return nil
	}
	desc, err := i.to.Repository(name).MountBlob(ctx, f.blob, from)
	if errors.Is(err, oci.BlobUnknown) {
		return nil // that one is told of, too
	}
	if err == nil {
		i.layouts[name].contents[f.blob] = desc.Size
	}
	return err
}

// understand reads the index of a layout, and its manifests, of what was stored.
func (i *importer) understand(ctx context.Context, name oci.Name, l *landed) (err error) {
	if l.raw == nil {
		l.raw = []byte(`{"schemaVersion":2,"manifests":[]}`)
		i.opts.Problem(transfer.Problem{Repository: name, Err: errors.New("it has no index.json, so its blobs have no names")})
	}
	if l.index, err = layout.Decode(l.raw); err != nil {
		return err
	}
	i.tellNames(name, l.raw)
	l.raw = nil // there may be many
	r := i.to.Repository(name)
	for !l.index.Complete() {
		if l.index, err = learn(ctx, r, l.index); err != nil {
			return err
		}
	}
	return nil
}

// perLearn is how many manifests are in memory at once, and bytesPerLearn how many
// bytes of them.
const (
	perLearn      = 1000
	bytesPerLearn = 8 << 20
)

// learn returns an index that knows what those manifests say that it hadn't read.
func learn(ctx context.Context, r storage.Repository, idx *layout.Index) (*layout.Index, error) {
	var read []oci.Manifest
	var absent []digest.Digest
	bytes, known := 0, idx
	for desc := range idx.Unread() {
		m, err := storage.ReadManifest(ctx, r, desc)
		switch {
		case err == nil:
			read = append(read, m)
			bytes += len(m.Raw)
		case errors.Is(err, oci.BlobUnknown), errors.Is(err, oci.ManifestInvalid):
			absent = append(absent, desc.Digest)
		default:
			return nil, err
		}
		if len(read) >= perLearn || bytes >= bytesPerLearn {
			known, read, absent, bytes = known.Learn(read, absent), nil, nil, 0
		}
	}
	return known.Learn(read, absent), nil
}

// tellNames tells of names that can't be tags: other tools write whole references.
func (i *importer) tellNames(name oci.Name, index []byte) {
	var list ocispec.Index
	if json.Unmarshal(index, &list) != nil {
		return // it was decoded before
	}
	for _, desc := range list.Manifests {
		called := desc.Annotations[ocispec.AnnotationRefName]
		if _, err := oci.ParseTag(called); called != "" && err != nil {
			i.opts.Problem(transfer.Problem{Repository: name, What: desc.Digest.String(), Err: fmt.Errorf("it's called %q, which can't be a tag, and has none now", called)})
		}
	}
}

// arrived is what was stored, as a store to copy from: only names are missing.
type arrived struct {
	storage.Store

	layouts map[oci.Name]*landed
}

func (a arrived) Repositories(_ context.Context, after oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) {
		for _, n := range slices.SortedFunc(maps.Keys(a.layouts), oci.Name.Compare) {
			if n.Compare(after) > 0 && !yield(n, nil) {
				return
			}
		}
	}
}

func (a arrived) Repository(name oci.Name) storage.Repository {
	return arrivedRepository{a.Store.Repository(name), a.layouts[name]}
}

type arrivedRepository struct {
	storage.Repository

	layout *landed
}

var _ storage.Collectable = arrivedRepository{}

func (r arrivedRepository) Index(context.Context) (storage.Index, error) { return r.layout.index, nil }

func (r arrivedRepository) Contents(context.Context) iter.Seq2[storage.Content, error] {
	return func(yield func(storage.Content, error) bool) {
		for d, size := range r.layout.contents {
			if !yield(storage.Content{Digest: d, Size: size}, nil) {
				return
			}
		}
	}
}

func (r arrivedRepository) Peek(ctx context.Context, d digest.Digest) (*storage.Blob, error) {
	return r.OpenBlob(ctx, d)
}

func (r arrivedRepository) Retire(context.Context) (bool, error) {
	return false, errors.ErrUnsupported
}
