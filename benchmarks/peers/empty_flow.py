"""What Prefect takes to start its server, run nothing, and stop."""

from prefect import flow


@flow
def nothing() -> None:
    """Nothing."""


def main() -> None:
    nothing()


if __name__ == "__main__":
    main()
