"""Tag words or classify texts with a finished model, file by file, however large."""

from retort.commands import predict

if __name__ == "__main__":
    predict.main()
