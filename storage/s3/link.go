package s3

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

var _ storage.Redirector = inObject{}

// Redirect implements storage.Redirector. It makes no call, but for the first one in
// an hour or more. What is as small as something in a record may lie in an object with
// other things.
func (o inObject) Redirect(ctx context.Context) (string, error) {
	s := o.at.repository.store
	opts := s.options()
	if opts.RedirectFrom <= 0 || o.size < opts.RedirectFrom || o.size <= max(maxInline, maxInlineBlob) {
		return "", nil
	}
	if !s.mayLink(ctx, opts.RedirectLife) {
		return "", nil
	}
	url, err := s.bucket.link(ctx, s.keys.data(o.at.entry.ID), opts.RedirectLife)
	if err != nil {
		return "", fmt.Errorf("sign a URL of %s: %w", o.at.digest, err)
	}
	return url, nil
}

// linkedFor is how long after a blob was dropped somebody may still come for it
// who was sent to the bucket before.
func (o *Options) linkedFor() time.Duration {
	if o.RedirectFrom <= 0 {
		return 0
	}
	return o.RedirectLife
}

// link has the store say of an object, beside its bytes, what the registry would.
// It can't be told to say nosniff; but no browser shows what is an attachment.
func (a *awsBucket) link(ctx context.Context, key string, life time.Duration) (string, error) {
	signed, err := a.links.PresignGetObject(ctx, &awss3.GetObjectInput{
		Bucket: &a.at.Bucket, Key: &key,
		ResponseContentType:        aws.String(oci.MediaTypeBlob),
		ResponseCacheControl:       aws.String("private, max-age=31536000, immutable, no-transform"),
		ResponseContentDisposition: aws.String("attachment"),
	}, awss3.WithPresignExpires(life))
	if err != nil {
		return "", err
	}
	return signed.URL, nil
}
