"""Checkpoints on disk: safetensors in, safetensors out, tensor by tensor, in memory that does not grow with the model.

| module | is |
|---|---|
| `headers` | what one safetensors file says it holds, checked against its size |
| `folder` | the files of a checkpoint and its index, checked against each other |
| `reading` | elements of a tensor, into buffers that are used again |
| `small_files` | what lies beside the weights |
| `plan` | what is to be made: files, their tensors, and jobs that produce them from others |
| `layout` | where each tensor of an output file goes: known before anything is computed |
| `tensor_jobs` | the jobs that quantize or cast one tensor, in chunks |
| `bitsandbytes_jobs` | the jobs that make a checkpoint of bitsandbytes one of ours, or back |
| `bitsandbytes_layout`, `bitsandbytes_state` | one weight of bitsandbytes, to and from ours; the JSON beside it |
| `journal` | what a run is and what it has finished; its lock |
| `partial` | the folder that is being written: the journal, and files of their final size |
| `run` | a plan from its first byte to the rename |
| `finishing` | the last steps before the rename: small files, index, manifest |
| `manifest` | the SHA-256 of everything, and proving a folder intact by it |
| `summary` | what a quantized folder stores, from its headers |
| `file_io`, `tensor_bytes` | bytes of open files, and of tensors |

Another conversion than quantizing is another list of jobs for the same `run`.

Why not `safetensors.torch`: it maps files into memory, whose pages count as resident, and its writer takes all tensors
of a file at once. Only the format (an 8-byte length, a JSON header, the data) is ours to read and write, and tests
hold both to the library's bytes.

Never a wrong folder: everything is written beside OUT, in `OUT.partial`, and renamed when it is complete and on the
disk. The price is that a full copy is made even where little changes. POSIX only (`pread`, `flock`, atomic rename of
folders); nothing here needs a GPU.
"""
