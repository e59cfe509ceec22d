// Package signins owns the records of the topic prtwatch.signins: one projected sign-in a
// record, or a control record. It knows how they are written as bytes, keyed and headed,
// and nothing of clients. Start at Append and Decode.
//
// A value is a version byte and then fields in Protobuf's wire format, without a schema
// compiler: a field that is absent or empty is not written, a field that is not known is
// skipped. So a release may add a field that older ones can do without and keep the version;
// whatever they could not do without takes a new version, at which they stop (ErrNewer).
package signins

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/prtwatch/prtwatch/detector"
)

// Version is the first byte of every value that Append writes.
const Version = 1

// The splitter writes nothing larger, for it cuts texts and refuses long ids. Of a sign-in of somebody else that is, the
// alert or the profile could be more than a broker takes: the detecting stage makes a dead letter of it.
const (
	MaxKey   = 8 << 10
	MaxValue = 128 << 10
)

// lastVersion is the last one that a release will ever write. A first byte above it is
// corrupt and not newer: bytes of another origin, of which text is the likeliest (its
// first byte is at least 0x20), belong among the dead letters and must not stop a partition.
const lastVersion = 0x1f

// ErrNewer is what Decode, DecodeTick and CheckControl return for a record that a later
// release wrote. It must stop the partition: nothing may be skipped in the middle of an
// upgrade.
var ErrNewer = errors.New("the record is of a newer version of prtwatch: upgrade this instance, it then goes on where it stopped")

// ErrCorrupt is what Decode and DecodeTick return for bytes that no release wrote.
var ErrCorrupt = errors.New("the record is corrupt")

// The fields of a sign-in. A number is never used again for something else; the next free
// one is 33; 30 and 31 were in use once, 32 is the origin's. (A number up to 15 costs one byte less.)
const (
	fieldID        protowire.Number = 1
	fieldGenerated protowire.Number = 2 // times: see appendTime
	fieldCreated   protowire.Number = 3
	fieldArrived   protowire.Number = 4
	fieldUPN       protowire.Number = 5
	fieldUserID    protowire.Number = 6
	fieldTenantID  protowire.Number = 7
	fieldIP        protowire.Number = 8
	fieldASN       protowire.Number = 9
	fieldCountry   protowire.Number = 10

	fieldResultType   protowire.Number = 11
	fieldResourceName protowire.Number = 12
	fieldResourceID   protowire.Number = 13
	fieldAppName      protowire.Number = 14
	fieldAppID        protowire.Number = 15
	fieldUserAgent    protowire.Number = 16
	fieldMFA          protowire.Number = 17 // varint, the bits of detector.MFA

	fieldCorrelationID         protowire.Number = 18
	fieldSessionID             protowire.Number = 19
	fieldUniqueTokenIdentifier protowire.Number = 20
	fieldIncomingTokenType     protowire.Number = 21

	fieldDeviceID        protowire.Number = 22
	fieldDeviceName      protowire.Number = 23
	fieldDeviceManaged   protowire.Number = 24 // varint 0 or 1, not written where nil
	fieldDeviceCompliant protowire.Number = 25

	fieldTruncated protowire.Number = 26 // varint 1
)

// texts lists the text fields by number, so that writing and reading cannot disagree.
func texts(s *detector.SignIn) [24]*string {
	return [24]*string{
		fieldID: &s.ID, fieldUPN: &s.UPN, fieldUserID: &s.UserID, fieldTenantID: &s.TenantID,
		fieldIP: &s.IP, fieldASN: &s.ASN, fieldCountry: &s.Country,
		fieldResultType: &s.ResultType, fieldResourceName: &s.ResourceName, fieldResourceID: &s.ResourceID,
		fieldAppName: &s.AppName, fieldAppID: &s.AppID, fieldUserAgent: &s.UserAgent,
		fieldCorrelationID: &s.CorrelationID, fieldSessionID: &s.SessionID,
		fieldUniqueTokenIdentifier: &s.UniqueTokenIdentifier, fieldIncomingTokenType: &s.IncomingTokenType,
		fieldDeviceID: &s.DeviceID, fieldDeviceName: &s.DeviceName,
	}
}

// Append appends the value of the record for s, which was split from o, to dst. It copies every text.
func Append(dst []byte, s *detector.SignIn, o Origin) []byte {
	dst = appendOrigin(append(dst, Version), o)
	dst = appendTime(dst, fieldGenerated, s.Generated)
	dst = appendTime(dst, fieldCreated, s.Created)
	dst = appendTime(dst, fieldArrived, s.Arrived)
	for number, text := range texts(s) {
		if text != nil && *text != "" {
			dst = protowire.AppendTag(dst, protowire.Number(number), protowire.BytesType)
			dst = protowire.AppendString(dst, *text)
		}
	}
	if s.MFA != 0 {
		dst = appendVarint(dst, fieldMFA, uint64(s.MFA))
	}
	if s.DeviceManaged != nil {
		dst = appendVarint(dst, fieldDeviceManaged, protowire.EncodeBool(*s.DeviceManaged))
	}
	if s.DeviceCompliant != nil {
		dst = appendVarint(dst, fieldDeviceCompliant, protowire.EncodeBool(*s.DeviceCompliant))
	}
	if s.Truncated {
		dst = appendVarint(dst, fieldTruncated, 1)
	}
	return dst
}

func appendVarint(dst []byte, number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, number, protowire.VarintType), v)
}

// appendTime writes a time as nanoseconds since 1970, eight bytes; the zero time is absent.
// A time before 1678 or after 2262 is beyond what that holds: stream/entra lets none in.
func appendTime(dst []byte, number protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	return protowire.AppendFixed64(protowire.AppendTag(dst, number, protowire.Fixed64Type), uint64(t.UnixNano()))
}

func timeOf(nanoseconds uint64) time.Time { return time.Unix(0, int64(nanoseconds)).UTC() }

// Decode reads a value that Append wrote into s, of which it leaves nothing. The texts are
// parts of one copy of value: they stay valid, and keeping one of them keeps that copy, some
// 500 bytes (strings.Clone where many are kept for long).
//
// Its errors are ErrNewer, and ErrCorrupt for bytes that no release wrote, with what is
// wrong; after either s holds nothing that may be used.
func Decode(value []byte, s *detector.SignIn) error {
	*s = detector.SignIn{}
	body, err := bodyOf(value)
	if err != nil {
		return fmt.Errorf("decoding a sign-in: %w", err)
	}
	if err := decodeFields(body, s); err != nil {
		return fmt.Errorf("decoding a sign-in: %w", err)
	}
	if s.ID == "" || s.Generated.IsZero() {
		return fmt.Errorf("decoding a sign-in: %w: it has no id or no time", ErrCorrupt)
	}
	return nil
}

// bodyOf returns what follows the version.
func bodyOf(value []byte) ([]byte, error) {
	switch {
	case len(value) == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrCorrupt)
	case value[0] == 0:
		return nil, fmt.Errorf("%w: there is no version 0", ErrCorrupt)
	case value[0] > lastVersion:
		return nil, fmt.Errorf("%w: it does not begin with a version", ErrCorrupt)
	case value[0] > Version:
		return nil, fmt.Errorf("%w (record version %d, this release reads %d)", ErrNewer, value[0], Version)
	}
	return value[1:], nil
}

// decodeFields reads the fields. Offsets are the same in body and in its copy, text.
func decodeFields(body []byte, s *detector.SignIn) error {
	text := string(body)
	fields := texts(s)
	for at := 0; at < len(body); {
		number, kind, n := protowire.ConsumeTag(body[at:])
		if n < 0 {
			return corruptAt(at, n)
		}
		at += n
		switch {
		case kind == protowire.BytesType && int(number) < len(fields) && fields[number] != nil:
			size, n := protowire.ConsumeVarint(body[at:])
			if n < 0 {
				return corruptAt(at, n)
			}
			at += n
			if size > uint64(len(body)-at) {
				return fmt.Errorf("%w: text %d ends behind the record", ErrCorrupt, number)
			}
			*fields[number] = text[at : at+int(size)]
			at += int(size)
		case kind == protowire.Fixed64Type:
			v, n := protowire.ConsumeFixed64(body[at:])
			if n < 0 {
				return corruptAt(at, n)
			}
			setTime(s, number, v)
			at += n
		case kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(body[at:])
			if n < 0 {
				return corruptAt(at, n)
			}
			setNumber(s, number, v)
			at += n
		default:
			n := protowire.ConsumeFieldValue(number, kind, body[at:])
			if n < 0 {
				return corruptAt(at, n)
			}
			at += n
		}
	}
	return nil
}

func corruptAt(at, code int) error {
	return fmt.Errorf("%w: byte %d: %w", ErrCorrupt, at+1, protowire.ParseError(code))
}

func setTime(s *detector.SignIn, number protowire.Number, nanoseconds uint64) {
	switch number {
	case fieldGenerated:
		s.Generated = timeOf(nanoseconds)
	case fieldCreated:
		s.Created = timeOf(nanoseconds)
	case fieldArrived:
		s.Arrived = timeOf(nanoseconds)
	}
}

// True and false, for the fields that point at one: a sign-in that is decoded costs no
// allocation for them. Nobody may write through these pointers.
var yes, no = true, false

func setNumber(s *detector.SignIn, number protowire.Number, v uint64) {
	truth := &no
	if v != 0 {
		truth = &yes
	}
	switch number {
	case fieldMFA:
		s.MFA = detector.MFA(v)
	case fieldDeviceManaged:
		s.DeviceManaged = truth
	case fieldDeviceCompliant:
		s.DeviceCompliant = truth
	case fieldTruncated:
		s.Truncated = *truth
	}
}
