package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// sessionRecord is an upload session as other processes find it.
type sessionRecord struct {
	Repository string           `json:"repository"`
	Algorithm  digest.Algorithm `json:"algorithm"`
	By         string           `json:"by,omitempty"`
	Write      string           `json:"write"`           // a random ID for each write, by which a lost answer is settled
	Ended      bool             `json:"ended,omitempty"` // nothing else counts

	Size int64  `json:"size"`           // of parts, rests and Inline, which is their order
	Hash []byte `json:"hash,omitempty"` // of these bytes, as encoding.BinaryMarshaler has it

	Data      string `json:"data,omitempty"`   // where the parts become an object
	Upload    string `json:"upload,omitempty"` // the multipart upload of it
	PartSize  int64  `json:"partSize"`
	Parts     []part `json:"parts,omitempty"`
	PartsHash []byte `json:"partsHash,omitempty"` // as Hash, of the parts alone
	NextPart  int    `json:"nextPart,omitempty"`  // lower numbers belong to who wrote this here, used or not

	Rests  []entry `json:"rests,omitempty"` // what is too little for a part
	Inline []byte  `json:"inline,omitempty"`
}

// write makes rec the session's record, if that's what this process knows of it.
// errConflict: somebody else has changed it, or ended the session.
func (s *session) write(ctx context.Context, rec sessionRecord) error {
	rec.Repository, rec.Algorithm, rec.Write = s.repository.name.String(), s.id.algorithm, newID()
	body, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	b := s.repository.store.bucket
	write := putRequest{Key: s.key(), Body: body, IfMatch: s.etag, IfAbsent: s.etag == ""}
	for tries := b.patience.begin(); ; {
		asked := time.Now()
		etag, err := b.put(ctx, write)
		if err == nil {
			s.rec, s.etag, s.at = rec, etag, asked
			return nil
		}
		if !passing(err) && !errors.Is(err, errConflict) && !errors.Is(err, errNotFound) {
			return err
		}
		now, etag, rerr := s.read(ctx)
		switch {
		case rerr != nil:
			return errors.Join(err, rerr)
		case now.Write == rec.Write:
			s.rec, s.etag, s.at = rec, etag, asked
			return nil
		case etag != s.etag:
			return fmt.Errorf("%w: the session has gone on", errConflict)
		}
		if err := tries.again(ctx, err); err != nil {
			return err
		}
	}
}

// read returns the record as it is. Without one the etag is empty.
func (s *session) read(ctx context.Context) (rec sessionRecord, etag string, err error) {
	body, etag, err := s.repository.store.bucket.fetch(ctx, getRequest{Key: s.key()})
	if errors.Is(err, errNotFound) {
		return sessionRecord{}, "", nil
	}
	if err != nil {
		return sessionRecord{}, "", fmt.Errorf("read the upload session: %w", err)
	}
	if err := json.Unmarshal(body, &rec); err != nil {
		return sessionRecord{}, "", fmt.Errorf("%w: upload session %s: %w", storage.ErrBroken, s.id.text, err)
	}
	return rec, etag, nil
}

func (s *session) key() string { return s.repository.store.keys.session(s.id.text) }

func unknownUpload(id string) error {
	return oci.Errorf(oci.BlobUploadUnknown, "upload %.64s isn't one of this repository, or has ended", id)
}
