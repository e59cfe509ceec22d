package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// checkpointVersion leads every encoded checkpoint.
const checkpointVersion = 1

// Checkpoint says up to where of which baseline topic a partition's profiles are. It may
// lag behind what is in Pebble while a restore is under way, for which see Partition.Put.
type Checkpoint struct {
	ClusterID  string
	TopicID    [16]byte
	Partitions int32
	Offset     int64     // the next offset of the baseline partition to read
	Timestamp  time.Time // of the last record that is in; zero where there is none
}

func (c Checkpoint) append(dst []byte) []byte {
	dst = append(dst, checkpointVersion)
	dst = binary.AppendUvarint(dst, uint64(len(c.ClusterID)))
	dst = append(dst, c.ClusterID...)
	dst = append(dst, c.TopicID[:]...)
	dst = binary.AppendVarint(dst, int64(c.Partitions))
	dst = binary.AppendVarint(dst, c.Offset)
	if c.Timestamp.IsZero() {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	dst = binary.AppendVarint(dst, c.Timestamp.Unix())
	return binary.AppendUvarint(dst, uint64(c.Timestamp.Nanosecond()))
}

func decodeCheckpoint(data []byte) (Checkpoint, error) {
	var c Checkpoint
	r := reader{data: data}
	if v := r.byte(); v != checkpointVersion && r.err == nil {
		return c, fmt.Errorf("checkpoint has version %d, this program reads version %d", v, checkpointVersion)
	}
	c.ClusterID = string(r.bytes(int(r.upTo(uint64(len(r.data)), "length of the cluster id"))))
	copy(c.TopicID[:], r.bytes(16))
	c.Partitions = int32(r.varint())
	c.Offset = r.varint()
	if r.byte() != 0 {
		seconds := r.varint()
		c.Timestamp = time.Unix(seconds, r.upTo(999_999_999, "nanoseconds")).UTC()
	}
	if r.err != nil || len(r.data) > 0 {
		return Checkpoint{}, errors.New("malformed checkpoint")
	}
	return c, nil
}
