package storagetest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// breakage is a way to break a store, and checks that have to notice.
type breakage struct {
	mutate func(m *mutant)
	fails  []string
}

func (b breakage) store() storage.Store {
	m := &mutant{Store: memory.New()}
	b.mutate(m)
	return m
}

func breakages() map[string]breakage {
	all := make(map[string]breakage)
	for _, group := range []map[string]breakage{
		catalogBreakages(), storeBreakages(), blobBreakages(), manifestBreakages(), mountBreakages(),
		tagBreakages(), relationBreakages(), snapshotBreakages(), referrerBreakages(), updateBreakages(), editBreakages(),
		sessionBreakages(), appendBreakages(), commitBreakages(),
	} {
		maps.Copy(all, group)
	}
	return all
}

// background context, for hooks that have no other.
var ctx = context.Background()

func catalogBreakages() map[string]breakage {
	return map[string]breakage{
		"Repositories in the order of a walk": {func(m *mutant) {
			m.repositories = listed(func(names []oci.Name) []oci.Name {
				slices.SortFunc(names, func(a, b oci.Name) int {
					return slices.Compare(strings.Split(a.String(), "/"), strings.Split(b.String(), "/"))
				})
				return names
			})
		}, []string{"Store: Repositories is in the order of Name.Compare"}},
		"Repositories ignores where to begin": {func(m *mutant) {
			m.repositories = func(s storage.Store, _ oci.Name) iter.Seq2[oci.Name, error] {
				return s.Repositories(ctx, oci.Name{})
			}
		}, []string{"Store: Repositories begins after the name given", "Store: Repositories begins after a name that doesn't exist"}},
		"Repositories goes on after an error": {func(m *mutant) {
			m.repositories = func(s storage.Store, after oci.Name) iter.Seq2[oci.Name, error] {
				return func(yield func(oci.Name, error) bool) {
					for n, err := range s.Repositories(ctx, after) {
						if !yield(n, err) || err != nil && !yield(n, err) {
							return
						}
					}
				}
			}
		}, []string{"Store: an error ends the sequence of Repositories"}},
		"Repositories can't be stopped": {func(m *mutant) {
			m.repositories = func(s storage.Store, after oci.Name) iter.Seq2[oci.Name, error] {
				return func(yield func(oci.Name, error) bool) {
					for n, err := range s.Repositories(ctx, after) {
						yield(n, err)
					}
				}
			}
		}, []string{"Store: Repositories can be stopped"}},
		"asking creates": {func(m *mutant) {
			m.index = func(r storage.Repository) (storage.Index, error) {
				if idx, err := r.Index(ctx); err == nil {
					return idx, nil
				}
				_, err := storage.PutBlob(ctx, r, digest.FromString(""), strings.NewReader(""), storage.UploadOptions{})
				return nil, cmp.Or(err, oci.Errorf(oci.NameUnknown, "%s", r.Name()))
			}
		}, []string{"Store: asking about a repository doesn't create it"}},
		"an unknown repository is an empty one": {func(m *mutant) {
			m.resolve = func(r storage.Repository, ref oci.Reference) (oci.Descriptor, error) {
				desc, err := r.Resolve(ctx, ref)
				if errors.Is(err, oci.NameUnknown) {
					err = oci.Errorf(oci.ManifestUnknown, "%s", ref)
				}
				return desc, err
			}
		}, []string{"Store: reading a repository that doesn't exist gives NameUnknown"}},
	}
}

func storeBreakages() map[string]breakage {
	return map[string]breakage{
		"an empty repository is gone": {func(m *mutant) {
			m.index = func(r storage.Repository) (storage.Index, error) {
				idx, err := r.Index(ctx)
				if err == nil && len(slices.Collect(idx.Manifests())) == 0 {
					return nil, oci.Errorf(oci.NameUnknown, "%s", r.Name())
				}
				return idx, err
			}
		}, []string{"Store: a repository goes on existing when it's empty", "Store: a repository exists from its first blob on"}},
		"one repository for all names": {func(m *mutant) {
			m.repository = func(s storage.Store, n oci.Name) storage.Repository {
				top, _, _ := strings.Cut(n.String(), "/")
				one, err := oci.ParseName(top)
				if err != nil {
					panic(err)
				}
				return s.Repository(one)
			}
		}, []string{
			"Store: repositories that lie inside another's name are others",
			"Reader: Name returns the repository's name",
			"Edit: DropBlob removes the blob from no other repository",
		}},
		"one writer at a time, the others are told to come back": {func(m *mutant) {
			one := newOccupied()
			m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
				leave, ok := one.enter(ctx)
				if !ok {
					return errDead
				}
				defer leave()
				return r.Update(ctx, fn)
			}
		}, []string{"Store: it is safe for concurrent use", "Update: concurrent updates are all applied"}},
		"never ready": {func(m *mutant) {
			m.ready = func(storage.Store) error { return storage.ErrStandby }
		}, []string{"Store: Ready is nil while the store can be read and written"}},
		"Close does nothing": {func(m *mutant) {
			m.close = func(storage.Store) error { return nil }
		}, []string{
			"Store: Close waits for what's in progress", "Store: what is called after Close fails",
			"Store: what is called after Close on things opened before fails too",
		}},
		"writes that race are lost": {stale(1), []string{
			"Update: updates of one repository happen one after another",
			"DeleteManifest: of several who delete one manifest one does",
		}},
		"first writes that race are lost": {stale(0), []string{
			"PutManifest: of several who want a tag that isn't there one gets it",
		}},
	}
}

// listed changes what Repositories lists.
func listed(change func([]oci.Name) []oci.Name) func(storage.Store, oci.Name) iter.Seq2[oci.Name, error] {
	return func(s storage.Store, after oci.Name) iter.Seq2[oci.Name, error] {
		return func(yield func(oci.Name, error) bool) {
			var names []oci.Name
			for n, err := range s.Repositories(ctx, after) {
				if err != nil {
					yield(n, err)
					return
				}
				names = append(names, n)
			}
			for _, n := range change(names) {
				if !yield(n, nil) {
					return
				}
			}
		}
	}
}

func blobBreakages() map[string]breakage {
	return map[string]breakage{
		"blobs are described wrongly": {func(m *mutant) {
			m.stat = func(r storage.Repository, d digest.Digest) (oci.Descriptor, error) {
				desc, err := r.StatBlob(ctx, d)
				desc.MediaType = "application/json"
				return desc, err
			}
		}, []string{"Reader: StatBlob describes a blob", "Repository: MountBlob makes a blob of this repository of another's"}},
		"every blob is there": {func(m *mutant) {
			m.stat = func(r storage.Repository, d digest.Digest) (oci.Descriptor, error) {
				desc, err := r.StatBlob(ctx, d)
				if errors.Is(err, oci.BlobUnknown) {
					return pretend(d)
				}
				return desc, err
			}
		}, []string{"Reader: a blob that isn't there is BlobUnknown", "DeleteBlob: a blob that isn't there is BlobUnknown"}},
		"a blob that isn't there is an accident": {func(m *mutant) {
			m.open = func(r storage.Repository, d digest.Digest) (*storage.Blob, error) {
				b, err := r.OpenBlob(ctx, d)
				if err != nil {
					err = errDead
				}
				return b, err
			}
		}, []string{
			"DeleteBlob: a manifest whose bytes are gone keeps its blobs, which it needs once they come again",
			"GetManifest: a manifest whose bytes are gone is ManifestUnknown",
		}},
		"an open blob can't be read again": {func(m *mutant) {
			m.open = func(r storage.Repository, d digest.Digest) (*storage.Blob, error) {
				b, err := r.OpenBlob(ctx, d)
				if err == nil {
					b.ReadSeekCloser = noSeek{b.ReadSeekCloser}
				}
				return b, err
			}
		}, []string{"Reader: OpenBlob opens a blob for reading"}},
		"manifests are no blobs": {func(m *mutant) {
			m.stat = func(r storage.Repository, d digest.Digest) (oci.Descriptor, error) {
				if _, err := r.Resolve(ctx, oci.DigestRef(d)); err == nil {
					return oci.Descriptor{}, oci.Errorf(oci.BlobUnknown, "%s", d)
				}
				return r.StatBlob(ctx, d)
			}
		}, []string{"Reader: the manifests are blobs too"}},
	}
}

func manifestBreakages() map[string]breakage {
	return map[string]breakage{
		"blobs are manifests": {func(m *mutant) {
			m.resolve = func(r storage.Repository, ref oci.Reference) (oci.Descriptor, error) {
				if d, ok := ref.Digest(); ok {
					return r.StatBlob(ctx, d)
				}
				return r.Resolve(ctx, ref)
			}
		}, []string{
			"Reader: a blob is no manifest because it could be one", "Reader: Resolve finds what a tag or digest names",
			"GetManifest: it opens what a tag or digest names, as it was pushed", "GetManifest: what names nothing is ManifestUnknown",
			"Index: Resolve is Reader.Resolve at that moment",
		}},
		"manifests are encoded again": {func(m *mutant) {
			m.update = replay(func(c storage.Change) []storage.Change {
				if c.Kind == storage.PutChange {
					var b bytes.Buffer
					if json.Compact(&b, c.Manifest.Raw) == nil {
						c.Manifest.Raw = b.Bytes()
					}
				}
				return []storage.Change{c}
			})
		}, []string{"Reader: the bytes of a manifest are kept as they were sent"}},
		"tags have prefixes": {func(m *mutant) {
			m.resolve = func(r storage.Repository, ref oci.Reference) (oci.Descriptor, error) {
				desc, err := r.Resolve(ctx, ref)
				if t, ok := ref.Tag(); ok && errors.Is(err, oci.ManifestUnknown) {
					idx, failed := r.Index(ctx)
					if failed != nil {
						return desc, failed
					}
					for longer, desc := range idx.Tags(t) {
						if strings.HasPrefix(longer.String(), t.String()) {
							return desc, nil
						}
					}
				}
				return desc, err
			}
		}, []string{"Reader: what names nothing is ManifestUnknown"}},
	}
}

func mountBreakages() map[string]breakage {
	return map[string]breakage{
		"mounting moves": {func(m *mutant) {
			m.mount = func(r storage.Repository, d digest.Digest, from oci.Name) (oci.Descriptor, error) {
				desc, err := r.MountBlob(ctx, d, from)
				if err == nil && from != r.Name() {
					err = m.Store.Repository(from).Update(ctx, func(e *storage.Edit) error { e.DropBlob(d); return nil })
				}
				return desc, err
			}
		}, []string{"Repository: MountBlob makes a blob of this repository of another's", "Repository: MountBlob of what is there already is no error"}},
		"mounting is a promise": {func(m *mutant) {
			m.mount = func(r storage.Repository, d digest.Digest, _ oci.Name) (oci.Descriptor, error) {
				return oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: d, Size: 1}, nil
			}
		}, []string{
			"Repository: MountBlob of what the other hasn't got is BlobUnknown", "Repository: a mounted blob stays when the other repository drops it",
			"Upload: what a session holds is no blob before it's committed",
		}},
	}
}

type noSeek struct{ io.ReadSeekCloser }

func (noSeek) Seek(offset int64, _ int) (int64, error) { return offset, nil }

// broken has an index be changed by who looks at it.
func broken(change func(storage.Repository, *mutantIndex)) func(*mutant) {
	return func(m *mutant) {
		m.index = func(r storage.Repository) (storage.Index, error) {
			idx, err := r.Index(ctx)
			if err != nil {
				return nil, err
			}
			i := &mutantIndex{Index: idx}
			change(r, i)
			return i, nil
		}
	}
}

func tagBreakages() map[string]breakage {
	return map[string]breakage{
		"the index is alive": {broken(func(r storage.Repository, i *mutantIndex) {
			now := func() storage.Index {
				idx, err := r.Index(ctx)
				if err != nil {
					panic(err)
				}
				return idx
			}
			i.resolve = func(ref oci.Reference) (oci.Descriptor, error) { return now().Resolve(ref) }
			i.manifests = func() iter.Seq[oci.Descriptor] { return now().Manifests() }
			i.referrers = func(s, after digest.Digest) iter.Seq[storage.Referrer] { return now().Referrers(s, after) }
		}), []string{
			"Index: it doesn't move", "Index: it holds its data", "Index: Referrers is Reader.Referrers at that moment",
			"Edit: one edit is one change however many tags it sets and moves",
		}},
		"tags in order of their numbers": {broken(func(_ storage.Repository, i *mutantIndex) {
			i.tags = func(after oci.Tag) iter.Seq2[oci.Tag, oci.Descriptor] {
				byLength := func(a, b oci.Tag) int {
					return cmp.Or(len(a.String())-len(b.String()), strings.Compare(a.String(), b.String()))
				}
				tags := maps.Collect(i.Index.Tags(after))
				return func(yield func(oci.Tag, oci.Descriptor) bool) {
					for _, t := range slices.SortedFunc(maps.Keys(tags), byLength) {
						if !yield(t, tags[t]) {
							return
						}
					}
				}
			}
		}), []string{"Index: Tags yields the tags in byte order", "Index: Tags begins after the tag given", "Index: hundreds of tags can be listed page by page"}},
		"tags begin at the tag given": {broken(func(_ storage.Repository, i *mutantIndex) {
			i.tags = func(after oci.Tag) iter.Seq2[oci.Tag, oci.Descriptor] {
				return func(yield func(oci.Tag, oci.Descriptor) bool) {
					if desc, err := i.Index.Resolve(oci.TagRef(after)); err == nil && !yield(after, desc) {
						return
					}
					i.Index.Tags(after)(yield)
				}
			}
		}), []string{"Index: Tags begins after the tag given", "Index: hundreds of tags can be listed page by page"}},
		"tags without descriptors": {broken(func(_ storage.Repository, i *mutantIndex) {
			i.tags = func(after oci.Tag) iter.Seq2[oci.Tag, oci.Descriptor] {
				return func(yield func(oci.Tag, oci.Descriptor) bool) {
					for t := range i.Index.Tags(after) {
						if !yield(t, oci.Descriptor{}) {
							return
						}
					}
				}
			}
		}), []string{"Index: Tags yields the manifests that they name"}},
	}
}

func relationBreakages() map[string]breakage {
	return map[string]breakage{
		"a manifest for each tag": {broken(func(_ storage.Repository, i *mutantIndex) {
			i.manifests = func() iter.Seq[oci.Descriptor] {
				return func(yield func(oci.Descriptor) bool) {
					for _, desc := range i.Index.Tags(oci.Tag{}) {
						if !yield(desc) {
							return
						}
					}
				}
			}
		}), []string{
			"Index: Manifests yields every manifest once",
			"Index: Manifests is in order of digest",
		}},
		"referrers in any order, all of them": {broken(func(_ storage.Repository, i *mutantIndex) {
			i.referrers = func(s, _ digest.Digest) iter.Seq[storage.Referrer] {
				all := slices.Collect(i.Index.Referrers(s, ""))
				slices.Reverse(all)
				return slices.Values(all)
			}
		}), []string{"Index: Referrers is Reader.Referrers at that moment", "Referrers: they are in order of digest"}},
		"parents that are grandparents": {broken(func(_ storage.Repository, i *mutantIndex) {
			i.parents = func(d digest.Digest) iter.Seq[digest.Digest] {
				all := make(map[digest.Digest]bool)
				for p := range i.Index.Parents(d) {
					all[p] = true
					for g := range i.Index.Parents(p) {
						all[g] = true
					}
				}
				return maps.Keys(all)
			}
		}), []string{"Index: Parents yields the image indexes that list a manifest"}},
		"parents only of what is there": {broken(func(_ storage.Repository, i *mutantIndex) {
			i.parents = func(d digest.Digest) iter.Seq[digest.Digest] {
				if _, err := i.Index.Resolve(oci.DigestRef(d)); err != nil {
					return func(func(digest.Digest) bool) {}
				}
				return i.Index.Parents(d)
			}
		}), []string{"Index: Parents knows children that aren't there"}},
		"sequences can't be stopped": {broken(func(_ storage.Repository, i *mutantIndex) {
			i.parents = func(d digest.Digest) iter.Seq[digest.Digest] {
				return func(yield func(digest.Digest) bool) {
					for p := range i.Index.Parents(d) {
						yield(p)
					}
				}
			}
		}), []string{"Index: its sequences can be stopped"}},
	}
}

func snapshotBreakages() map[string]breakage {
	return map[string]breakage{
		"parents don't forget": {func(m *mutant) {
			var mu sync.Mutex
			seen := make(map[digest.Digest]bool)
			broken(func(_ storage.Repository, i *mutantIndex) {
				i.parents = func(d digest.Digest) iter.Seq[digest.Digest] {
					mu.Lock()
					defer mu.Unlock()
					for p := range i.Index.Parents(d) {
						seen[p] = true
					}
					return slices.Values(slices.Collect(maps.Keys(seen)))
				}
			})(m)
		}, []string{"Index: Parents yields no image index that was deleted"}},
		"the index is of one goroutine at a time, and says so": {broken(func(_ storage.Repository, i *mutantIndex) {
			one := newOccupied()
			i.resolve = func(ref oci.Reference) (oci.Descriptor, error) {
				leave, ok := one.enter(ctx)
				if !ok {
					return oci.Descriptor{}, errDead
				}
				defer leave()
				return i.Index.Resolve(ref)
			}
		}), []string{"Index: any number of goroutines may use it"}},
	}
}

func referrerBreakages() map[string]breakage {
	return map[string]breakage{
		"referrers of everything": {referrersBroken(func(r storage.Repository, _, _ digest.Digest, idx storage.Index) []storage.Referrer {
			var all []storage.Referrer
			for desc := range idx.Manifests() {
				all = append(all, storage.Referrer{Digest: desc.Digest})
			}
			return all
		}), []string{
			"Referrers: they are the manifests whose subject is this digest",
			"Referrers: a referrer that is deleted isn't listed",
			"Referrers: a subject that is deleted keeps its referrers",
		}},
		"referrers begin at the digest given": {referrersBroken(func(_ storage.Repository, s, _ digest.Digest, idx storage.Index) []storage.Referrer {
			return slices.Collect(idx.Referrers(s, ""))
		}), []string{"Referrers: they begin after the digest given"}},
		"referrers without what they say": {referrersBroken(func(_ storage.Repository, s, after digest.Digest, idx storage.Index) []storage.Referrer {
			all := slices.Collect(idx.Referrers(s, after))
			for i := range all {
				all[i].ArtifactType = ""
			}
			return all
		}), []string{
			"Referrers: they are described as json.Marshal does", "Referrers: the artifact type is that of the config without one",
			"Referrers: an image index may have a subject",
		}},
		"referrers always have an artifact type": {referrersBroken(func(_ storage.Repository, s, after digest.Digest, idx storage.Index) []storage.Referrer {
			all := slices.Collect(idx.Referrers(s, after))
			for i := range all {
				all[i].ArtifactType = cmp.Or(all[i].ArtifactType, oci.MediaTypeImageIndex)
			}
			return all
		}), []string{"Referrers: an image index without artifact type has none"}},
		"referrers in JSON that isn't for a web page": {referrersBroken(func(_ storage.Repository, s, after digest.Digest, idx storage.Index) []storage.Referrer {
			all := slices.Collect(idx.Referrers(s, after))
			for i := range all {
				all[i].JSON = strings.ReplaceAll(all[i].JSON, `\u003c`, "<")
			}
			return all
		}), []string{"Referrers: they are described as json.Marshal does"}},
		"referrers only of what is there": {referrersBroken(func(r storage.Repository, s, after digest.Digest, idx storage.Index) []storage.Referrer {
			if _, err := idx.Resolve(oci.DigestRef(s)); err != nil {
				return nil
			}
			return slices.Collect(idx.Referrers(s, after))
		}), []string{
			"Referrers: the subject need not exist", "Referrers: a subject that is deleted keeps its referrers",
			"Referrers: a subject of another algorithm has referrers",
		}},
	}
}

func referrersBroken(list func(r storage.Repository, subject, after digest.Digest, idx storage.Index) []storage.Referrer) func(*mutant) {
	return func(m *mutant) {
		m.referrers = func(r storage.Repository, subject, after digest.Digest) (iter.Seq[storage.Referrer], error) {
			idx, err := r.Index(ctx)
			if err != nil {
				return nil, err
			}
			return slices.Values(list(r, subject, after, idx)), nil
		}
	}
}
