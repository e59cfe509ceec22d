// Package signins owns the records of the topic prtwatch.signins: one projected sign-in a
// record, or a control record. It knows how they are written as bytes, keyed and headed,
// and nothing of clients. Start at Append and Decode.
package signins
