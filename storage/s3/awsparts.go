package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/caddy-oci/oci-registry/storage"
)

func (a *awsBucket) begin(ctx context.Context, key string) (string, error) {
	out, err := a.client.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{
		Bucket: &a.at.Bucket, Key: &key,
		StorageClass:         types.StorageClass(a.at.StorageClass),
		ServerSideEncryption: types.ServerSideEncryption(a.at.Encryption),
		SSEKMSKeyId:          some(a.at.KMSKey),
	})
	if err != nil {
		return "", failure(ctx, err)
	}
	return aws.ToString(out.UploadId), nil
}

func (a *awsBucket) part(ctx context.Context, key, upload string, n int, body []byte) (string, error) {
	out, err := a.client.UploadPart(ctx, &awss3.UploadPartInput{
		Bucket: &a.at.Bucket, Key: &key, UploadId: &upload, PartNumber: aws.Int32(int32(n)), //nolint:gosec // up to 10,000
		Body: bytes.NewReader(body),
	})
	if err != nil {
		return "", failure(ctx, err)
	}
	return aws.ToString(out.ETag), nil
}

func (a *awsBucket) complete(ctx context.Context, key, upload string, parts []part) error {
	all := make([]types.CompletedPart, len(parts))
	for i := range parts {
		all[i] = types.CompletedPart{ETag: &parts[i].ETag, PartNumber: aws.Int32(int32(parts[i].Number))} //nolint:gosec // up to 10,000
	}
	_, err := a.client.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{
		Bucket: &a.at.Bucket, Key: &key, UploadId: &upload, MultipartUpload: &types.CompletedMultipartUpload{Parts: all},
	})
	return failure(ctx, err)
}

func (a *awsBucket) abort(ctx context.Context, key, upload string) error {
	_, err := a.client.AbortMultipartUpload(ctx, &awss3.AbortMultipartUploadInput{
		Bucket: &a.at.Bucket, Key: &key, UploadId: &upload,
	})
	return failure(ctx, err)
}

func (a *awsBucket) begun(ctx context.Context, prefix string, after begun) (page []begun, more bool, err error) {
	out, err := a.client.ListMultipartUploads(ctx, &awss3.ListMultipartUploadsInput{
		Bucket: &a.at.Bucket, Prefix: &prefix, KeyMarker: some(after.Key), UploadIdMarker: some(after.Upload),
	})
	if err != nil {
		return nil, false, failure(ctx, err)
	}
	for _, u := range out.Uploads {
		page = append(page, begun{aws.ToString(u.Key), aws.ToString(u.UploadId), aws.ToTime(u.Initiated)})
	}
	return page, aws.ToBool(out.IsTruncated), nil
}

// failure returns an error of the client as one of a bucket.
func failure(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	var status int
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = answer.HTTPStatusCode()
	}
	var code string
	if said, ok := errors.AsType[smithy.APIError](err); ok {
		code = said.ErrorCode()
	}
	kind := kindOf(status, code)
	if _, unsent := errors.AsType[*smithyhttp.RequestSendError](err); unsent {
		kind = errTemporary // or sent, and not answered
	}
	if _, torn := errors.AsType[*smithy.DeserializationError](err); torn && status < http.StatusBadRequest {
		kind = errTemporary
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// kindOf is what an answer means, by its status and, where several things have
// one, S3's code for it. A bucket that isn't there is no object that isn't there.
func kindOf(status int, code string) error {
	switch code {
	case "NoSuchBucket", "AccessDenied", "NotImplemented", "MethodNotAllowed":
		return errRefused
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable", "Throttling", "ThrottlingException",
		"TooManyRequests", "RequestLimitExceeded", "ServerBusy", "XMinioServerNotInitialized":
		return errSlowDown
	case "InternalError", "RequestTimeout", "OperationAborted", "RequestTimeTooSkewed",
		"IncompleteBody", "ClientDisconnected": // what was sent has come too slowly, or not whole
		return errTemporary
	case "ConditionalRequestConflict", "PreconditionFailed":
		return errConflict
	case "XMinioStorageFull", "QuotaExceeded", "InsufficientCapacity":
		return storage.ErrFull
	}
	switch {
	case status == http.StatusNotModified:
		return errNotModified
	case status == http.StatusNotFound:
		return errNotFound
	case status == http.StatusPreconditionFailed, status == http.StatusConflict:
		return errConflict
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return errSlowDown
	case status == http.StatusInsufficientStorage:
		return storage.ErrFull
	case status >= http.StatusInternalServerError, status == http.StatusRequestTimeout:
		return errTemporary
	}
	return errRefused
}
