//go:build !nos3

package ociregistry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/s3"
)

func init() { caddy.RegisterModule(S3Storage{}) }

// S3Storage keeps content in a bucket of an object store that speaks S3. Any
// number of processes may serve one bucket. All texts may have placeholders like
// {env.NAME} and {file./path}.
type S3Storage struct {
	// Bucket is the bucket's name. It has to exist. Required.
	Bucket string `json:"bucket,omitempty"`

	// Region is the bucket's. Default: what AWS's environment says, else us-east-1.
	Region string `json:"region,omitempty"`

	// Endpoint is the URL of the store. Default: AWS.
	Endpoint string `json:"endpoint,omitempty"`

	// Prefix is what all keys begin with. Default: none.
	Prefix string `json:"prefix,omitempty"`

	// PathStyle puts the bucket into the path, not the host. Default: false.
	PathStyle bool `json:"path_style,omitempty"`

	// AccessKey and SecretKey are who asks. Default: AWS's usual chain.
	AccessKey string `json:"access_key,omitempty"`
	SecretKey string `json:"secret_key,omitempty"`

	// Encryption is how the store is to encrypt: AES256 or aws:kms, with KMSKey.
	// Default: as the bucket is set up.
	Encryption string `json:"encryption,omitempty"`
	KMSKey     string `json:"kms_key,omitempty"`

	// StorageClass is that of blobs. Default: the bucket's.
	StorageClass string `json:"storage_class,omitempty"`

	// PartSize is how large the parts of large blobs are, in bytes. Default: 16 MiB.
	PartSize int64 `json:"part_size,omitempty"`

	// SingleWriter is for stores that don't keep conditions of writes. No other
	// process may write to the bucket then. Default: false.
	SingleWriter bool `json:"single_writer,omitempty"`

	at     s3.Location
	prefix string
}

// CaddyModule implements caddy.Module.
func (S3Storage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "oci_registry.storage.s3", New: func() caddy.Module { return new(S3Storage) }}
}

// Provision replaces placeholders. It asks nobody.
func (s *S3Storage) Provision(caddy.Context) error {
	s.at.PathStyle = s.PathStyle
	for _, o := range []struct {
		name, value string
		to          *string
	}{
		{"bucket", s.Bucket, &s.at.Bucket},
		{"region", s.Region, &s.at.Region},
		{"endpoint", s.Endpoint, &s.at.Endpoint},
		{"prefix", s.Prefix, &s.prefix},
		{"access_key", s.AccessKey, &s.at.AccessKey},
		{"secret_key", s.SecretKey, &s.at.SecretKey},
		{"encryption", s.Encryption, &s.at.Encryption},
		{"kms_key", s.KMSKey, &s.at.KMSKey},
		{"storage_class", s.StorageClass, &s.at.StorageClass},
	} {
		value, err := resolve(o.name, o.value)
		if err != nil {
			return err
		}
		*o.to = strings.TrimSpace(value) // a file ends in a line feed
	}
	s.prefix = strings.Trim(s.prefix, "/")
	return s.check()
}

// check refuses what can't be meant.
func (s *S3Storage) check() error {
	switch {
	case s.at.Bucket == "":
		return errors.New("storage s3 has no bucket: write 'bucket NAME' in its block")
	case (s.at.AccessKey == "") != (s.at.SecretKey == ""):
		return errors.New("storage s3 has one of access_key and secret_key: give both, or neither for AWS's usual chain")
	case s.at.Endpoint != "" && !strings.HasPrefix(s.at.Endpoint, "https://") && !strings.HasPrefix(s.at.Endpoint, "http://"):
		return fmt.Errorf("endpoint %q: want https://host or http://host", s.at.Endpoint)
	case s.PartSize != 0 && s.PartSize < leastPart:
		return fmt.Errorf("part_size is %d: S3 takes no parts of less than 5MiB", s.PartSize)
	}
	return nil
}

// leastPart is the least that S3 takes as a part that isn't the last, in bytes.
const leastPart = 5 << 20

// Identity implements Backend.
func (s *S3Storage) Identity() string {
	return strings.Join([]string{cmp.Or(s.at.Endpoint, "aws"), s.at.Bucket, s.prefix}, " ")
}

// Open implements Backend.
func (s *S3Storage) Open(ctx context.Context) (storage.Store, error) {
	return s3.Open(ctx, s.at, s.options())
}

// Tune implements Backend.
func (s *S3Storage) Tune(store storage.Store) {
	if to, ok := storage.As[*s3.Store](store); ok {
		to.Tune(s.options())
	}
}

func (s *S3Storage) options() s3.Options {
	return s3.Options{Prefix: s.prefix, PartSize: s.PartSize, SingleWriter: s.SingleWriter}
}

// UnmarshalCaddyfile parses
//
//	storage s3 {
//		bucket NAME
//		region NAME
//		endpoint URL
//		prefix PREFIX
//		path_style
//		access_key KEY
//		secret_key KEY
//		encryption NAME
//		kms_key NAME
//		storage_class NAME
//		part_size SIZE
//		single_writer
//	}
func (s *S3Storage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	return parseBlock(d, options{
		"bucket":        text(&s.Bucket, nil),
		"region":        text(&s.Region, nil),
		"endpoint":      text(&s.Endpoint, nil),
		"prefix":        text(&s.Prefix, nil),
		"path_style":    isSet(&s.PathStyle),
		"access_key":    text(&s.AccessKey, nil),
		"secret_key":    text(&s.SecretKey, nil),
		"encryption":    text(&s.Encryption, nil),
		"kms_key":       text(&s.KMSKey, nil),
		"storage_class": text(&s.StorageClass, nil),
		"part_size":     size(&s.PartSize),
		"single_writer": isSet(&s.SingleWriter),
	})
}

var (
	_ Backend               = (*S3Storage)(nil)
	_ caddy.Provisioner     = (*S3Storage)(nil)
	_ caddyfile.Unmarshaler = (*S3Storage)(nil)
)
